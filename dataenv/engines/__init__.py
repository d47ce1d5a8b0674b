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
        "noisy-engine": (
            "dataenv.engines.corrupting:NoisyEngine",
            "stress test: a share of another engine's rows made wrong; noisy-engine:SHARE",
        ),
        "leaky-engine": (
            "dataenv.engines.leaky:LeakyEngine",
            "stress test: a share of rows out of the feedback split; leaky-engine:SHARE",
        ),
        "deceive": ("dataenv.engines.corrupting:Deceive", "control: another engine's problems with wrong answers"),
        "response-only": ("dataenv.engines.untargeted:ResponseOnly", "control: another engine's answers, no problems"),
        "off-domain": ("dataenv.engines.untargeted:OffDomain", "control: rows of another task; off-domain:TASK"),
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
        "balanced-difficulty": (
            "dataenv.engines.selecting:BalancedDifficulty",
            "keeps what the student solves in 2 to 6 of 8 answers; balanced-difficulty:LOWEST SHARE",
        ),
        "instruct-mining": (
            "dataenv.engines.selecting:InstructMining",
            "keeps the half a rule fitted on past runs prefers; instruct-mining:FOLDER",
        ),
        "decontaminate": (
            "dataenv.engines.selecting:Decontaminate",
            "drops what is too like a protected problem, numbers aside",
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
