"""Teachers: agents that choose what to teach next. Imported as `dataenv.agents`.

Adding one is a file and a line here (or the entry-point group `dataenv.teachers`).
"""

from __future__ import annotations

from dataenv.registry import Registry

teachers = Registry(
    "teacher",
    {
        "adarft": (
            "dataenv.agents.adarft:AdaRFT",
            "difficulty that the student solves half of; adarft:BASE for shares",
        ),
        "alp-gmm": ("dataenv.agents.alp_gmm:AlpGMM", "requests where a Gaussian mixture sees learning progress"),
        "blocked": ("dataenv.agents.curricula:Blocked", "control: one skill after the other"),
        "blocked-curriculum": (
            "dataenv.agents.curricula:BlockedCurriculum",
            "control: one skill after the other, each easy to hard",
        ),
        "cma-mix": ("dataenv.agents.evolution:CMAMix", "CMA-ES over the shares, by the reward alone"),
        "cyclical": ("dataenv.agents.curricula:Cyclical", "control: the easiest quarter, half, all, half, quarter ..."),
        "dart-prop2diff": (
            "dataenv.agents.dart:DartProp2Diff",
            "rows like exercises, in proportion to how often each is failed",
        ),
        "dart-uniform": ("dataenv.agents.dart:DartUniform", "the same rows like each exercise"),
        "dart-vanilla": ("dataenv.agents.dart:DartVanilla", "control: rows like exercises that are solved"),
        "doraemon": (
            "dataenv.agents.doraemon:Doraemon",
            "the widest mix of skills and difficulties that is still solved",
        ),
        "dump-ucb": ("dataenv.agents.gain_bandits:DumpUCB", "bandit on learning gain, with a bonus for the unknown"),
        "easy-only": ("dataenv.agents.curricula:EasyOnly", "control: easy rows of every skill"),
        "easy-to-hard": ("dataenv.agents.curricula:EasyToHard", "control: every skill, ever harder"),
        "es-mix": ("dataenv.agents.evolution:ESMix", "hill climbing over the shares, by the reward alone"),
        "exp3s": ("dataenv.agents.exp3s:Exp3S", "adversarial bandit on learning progress"),
        "hard-only": ("dataenv.agents.curricula:HardOnly", "control: hard rows of every skill"),
        "hard-to-easy": ("dataenv.agents.curricula:HardToEasy", "control: every skill, ever easier"),
        "interleaved": ("dataenv.agents.curricula:Interleaved", "control: skills alternate row by row"),
        "interleaved-curriculum": (
            "dataenv.agents.curricula:InterleavedCurriculum",
            "control: skills alternate, ever harder",
        ),
        "kmeans-iter": (
            "dataenv.agents.pool:KMeansIter",
            "open-ended: pool rows from the clusters that the student fails",
        ),
        "lp-bandit": ("dataenv.agents.learning_progress:LPBandit", "rows in proportion to absolute learning progress"),
        "mastering-rate": (
            "dataenv.agents.mastering_rate:MasteringRate",
            "along the graph of skills, to what can be learnt by now",
        ),
        "paprika-ucb": ("dataenv.agents.paprika:PaprikaUCB", "curiosity about skills whose outcomes vary most"),
        "random-pool": ("dataenv.agents.pool:RandomPool", "open-ended: control, random rows of the pool"),
        "sec": ("dataenv.agents.gain_bandits:SEC", "bandit on learning gain"),
        "skill-it": ("dataenv.agents.skill_it:SkillIt", "rows for skills that help those where most is lost"),
        "tapir": ("dataenv.agents.tapir:Tapir", "rows like hard exercises, balanced over skills, ever more of them"),
        "thompson": ("dataenv.agents.thompson:Thompson", "Thompson sampling of skills that improve"),
        "cemal": ("dataenv.agents.cemal:Cemal", "rows like the exercises of a book that the student fails"),
        "llm2llm": ("dataenv.agents.llm2llm:LLM2LLM", "open-ended: a new problem for each seed row the student fails"),
        "pgkd": ("dataenv.agents.pgkd:PGKD", "a language model reads scores and confident errors, and may stop"),
        "random": ("dataenv.agents.controls:Random", "control: random shares and difficulties"),
        "uniform": ("dataenv.agents.controls:Uniform", "control: the same rows to every skill"),
        "open-ended-llm": (
            "dataenv.agents.llm_open_ended:OpenEndedLLM",
            "open-ended: a language model reads the errors and writes requests",
        ),
        "skill-list-llm": (
            "dataenv.agents.llm_skill_list:SkillListLLM",
            "skill-list: a language model deals the rows",
        ),
        "skill-tree-llm": (
            "dataenv.agents.llm_tree:SkillTreeLLM",
            "skill-tree: a language model explores, exploits or waits",
        ),
        "oracle-greedy": (
            "dataenv.agents.oracle:OracleGreedy",
            "privileged reference: tries plans on a fork, keeps the best",
        ),
        "rows-like-failures": (
            "dataenv.agents.open_ended:RowsLikeFailures",
            "open-ended: rows like each failed problem shown",
        ),
        "error-proportional": (
            "dataenv.agents.proportional:ErrorProportional",
            "rows in proportion to each skill's errors",
        ),
        "tree-alternating": ("dataenv.agents.tree:Alternating", "skill-tree: explore and exploit in turn"),
        "tree-fill-balanced": ("dataenv.agents.tree:FillBalanced", "skill-tree: grow, then the same rows to each leaf"),
        "tree-random": ("dataenv.agents.tree:RandomTree", "skill-tree: control, random moves"),
        "tree-threshold": ("dataenv.agents.tree:Threshold", "skill-tree: exploit what gained, else explore"),
    },
)
