"""Teachers: agents that choose what to teach next. Imported as `dataenv.agents`.

Adding one is a file and a line here (or the entry-point group `dataenv.teachers`).
"""

from __future__ import annotations

from dataenv.registry import Registry

teachers = Registry(
    "teacher",
    {
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
