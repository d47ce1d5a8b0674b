"""Engines turn requests into rows; the gate and its filters say which of them may be taught.

Adding one is a file and a line here (or the entry-point groups `dataenv.engines`, `dataenv.filters`).
"""

from __future__ import annotations

from dataenv.registry import Registry

engines = Registry(
    "engine",
    {
        "procedural": ("dataenv.engines.procedural:Procedural", "the task itself writes new solved problems"),
        "pool": ("dataenv.engines.pool:Pool", "draws rows from the task's pool split, without repeating any"),
        "self-sampling": (
            "dataenv.engines.self_sampling:SelfSampling",
            "the student's own right answers; self-sampling:ENGINE to problems of another engine",
        ),
        "mixture": (
            "dataenv.engines.mixture:Mixture",
            "several engines by share: mixture:procedural=0.7,self-sampling=0.3",
        ),
        "llm": ("dataenv.engines.llm:LLM", "a language model writes what the request says"),
        "new-question": ("dataenv.engines.llm:NewQuestion", "a language model writes in the style of pool problems"),
        "text-to-image": (
            "dataenv.engines.text_to_image:TextToImage",
            "a language model describes and asks, diffusers paints, a judge looks; needs engine.judge=STUDENT",
        ),
        "answer-augment": ("dataenv.engines.augmenting:AnswerAugment", "a language model solves pool problems anew"),
        "rephrase": ("dataenv.engines.augmenting:Rephrase", "a language model says pool problems in other words"),
    },
)

filters = Registry(
    "filter",
    {
        "known": ("dataenv.engines.judges:Known", "drops what the student solves in 3 of 4 answers; known:SHARE"),
        "helps": (
            "dataenv.engines.judges:Helps",
            "drops rows that gain nothing as an exemplar before other problems; helps:GAIN",
        ),
        "unlike": (
            "dataenv.engines.likeness:Unlike",
            "drops near duplicates of earlier rows (ROUGE-L); unlike:LIMIT",
        ),
        "confirmed": (
            "dataenv.engines.confirming:Confirmed",
            "drops pictures in which another image student sees another answer; confirmed:vlm:ORG/NAME",
        ),
        "consistent": (
            "dataenv.engines.consistency:Consistency",
            "drops what a language model's own solutions do not confirm; consistent:K solutions",
        ),
    },
)
