"""Settings of published experiments, by name: `dataenv run --preset paper:math --env open-ended`. Flags override them.

`paper` is the system of DataEnvGym (2024), https://arxiv.org/abs/2410.06215: what its published examples and their
configuration set, as far as `RunConfig` can say it. The paper's own quotas and step counts are not known to us. Where
dataenv does otherwise, a comment says so; and everywhere

* the original keeps a tenth of the rows from the student, which is not done here;
* rows of its engine are not checked; here they pass the gate, and what nobody can verify is solved again;
* it trains in fp16 to a learning rate of 0; here in bfloat16, to a tenth of the peak;
* its student answers base problems with four examples and taught ones with none; here prompts never change.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dataenv.errors import InvalidData, UnknownId
from dataenv.registry import meant

Settings = Mapping[str, Any]
"""Fields of a `RunConfig`."""

TEXT_STUDENT: Settings = {  # math, code and tool use; rank, alpha and dropout 0 were the training framework's defaults
    "rank": 8,
    "alpha": 16.0,
    "learning_rate": 1e-4,
    "schedule": "cosine",  # after a warm-up of a tenth of the updates, ours as well
    "epochs": 3,
    "batch": 16,  # of the examples; 8 in the configuration file
    "max_length": 1024,
    "dtype": "bfloat16",
}
IMAGE_STUDENT: Settings = {  # dropout 0.05, weight decay 1e-6 and a warm-up of 2 updates are not done here
    "rank": 16,
    "alpha": 32.0,
    "learning_rate": 2e-5,
    "epochs": 10,
    "batch": 16,
    "dtype": "bfloat16",
    "template": "{prompt}",  # the question alone
    "shots": 0,
}
CLIENT: Settings = {"tries": 3, "wait": 1.0, "longest_wait": 30.0}
ENGINE: Settings = {"batch": 10, "temperature": None}  # ten specifications a call, at the server's own temperature

ALL: Settings = {
    "model": "openai:gpt-4o",
    "regime": "retrain",
    "feedback": None,  # all there are, as the exam
    "exam": None,
    "select": "best",
}
CODE: Settings = {**ALL, "task": "livecodebench", "student": "meta-llama/Meta-Llama-3-8B-Instruct", "engine": "llm"}
SKILLS = 24  # as many as discovery by a language model finds at most; the original's were not counted
TOOLS: Settings = {**ALL, "task": "mnms", "student": "meta-llama/Meta-Llama-3-8B-Instruct", "engine": "llm"}
TOOL_STUDENT: Settings = {**TEXT_STUDENT, "max_length": 1600}  # of the examples; 1250 in the configuration file

MATH: Settings = {  # MATH is fixed data: --task jsonl:FILE, with its topics as skills, and task.max_new_tokens=350
    "student": "google/gemma-2-2b-it",
    "model": "openai:gpt-4o",
    "engine": "llm",
    "regime": "retrain",
    "feedback": 250,  # 50 of each of the five levels of a topic
    "exam": None,  # the whole test set
    "select": "best",  # on the selection split; the original has none, and selects on the feedback problems
}

PRESETS: Mapping[str, Mapping[str, Settings]] = {
    "paper:math": {
        "open-ended": {
            **MATH,
            "teacher": "open-ended-llm",
            "steps": 10,
            "rows": 120,  # 12 calls of 10
            "options": {
                "student": TEXT_STUDENT,
                "model": CLIENT,
                "engine": ENGINE,
                "env": {"shown": 36},
                "teacher": {"errors": 36},  # 3 in each of the 12 calls; here one call plans them all
            },
        },
        "skill-list": {
            **MATH,
            "skills": "llm",
            "teacher": "skill-list-llm",
            "steps": 3,
            "rows": 70,  # 10 hypotheses x 1 specification for each skill; MATH has 7 topics
            "options": {"student": TEXT_STUDENT, "model": CLIENT, "engine": ENGINE},
        },
        "skill-tree": {
            **MATH,
            "skills": "llm",
            "teacher": "skill-tree-llm",
            "steps": 20,  # 10 trainings after two decisions each; here each decision is followed by its own
            "rows": 420,  # 2 subskills x 30 rows for each skill; MATH has 7 topics
            "options": {
                "student": TEXT_STUDENT,
                "model": CLIENT,  # the original's engine asks gpt-4o-mini; a run has one model
                "engine": ENGINE,
                "env": {"organiser": "llm", "max_rows_per_skill": 200},  # the original's examples overshoot it
                "teacher": {"new": 2, "rows": 30},
            },
        },
    },
    "paper:code": {
        "open-ended": {
            **CODE,
            "teacher": "open-ended-llm",
            "steps": 5,  # where each step's rows alone were taught, not all so far
            "rows": 555,  # 5 for each error, of which there are 111 at most
            "options": {
                "student": TEXT_STUDENT,
                "model": CLIENT,
                "engine": {**ENGINE, "batch": 5},  # its second call, for the solution, was at temperature 0.2
                "env": {"shown": 36},
                "teacher": {"errors": 36},  # one in each call there; here one call plans them all
            },
        },
        "skill-list": {
            **CODE,
            "skills": "llm",
            "teacher": "skill-list-llm",
            "steps": 20,
            "rows": 5 * SKILLS,
            "options": {"student": TEXT_STUDENT, "model": CLIENT, "engine": {**ENGINE, "batch": 5}},
        },
        "skill-tree": {
            **CODE,
            "skills": "llm",
            "teacher": "skill-tree-llm",
            "steps": 10,
            "rows": 2 * 30 * SKILLS,  # the first step's 2 x 10
            "options": {
                "student": TEXT_STUDENT,
                "model": CLIENT,
                "engine": {**ENGINE, "batch": 5},
                "env": {"organiser": "llm", "max_rows_per_skill": 200},
                "teacher": {"new": 2, "rows": 10},
            },
        },
    },
    "paper:tools": {  # the original has no tree of tools
        "open-ended": {
            **TOOLS,
            "teacher": "open-ended-llm",
            "steps": 10,
            "rows": 60,  # 2 for each error, 60 at most
            "options": {
                "student": TOOL_STUDENT,
                "model": CLIENT,
                "engine": {**ENGINE, "batch": 2},
                "env": {"shown": 30},
                "teacher": {"errors": 30},
            },
        },
        "skill-list": {
            **TOOLS,
            "teacher": "skill-list-llm",
            "steps": 10,
            "rows": 60,  # 2 for each of 30 skills, at most
            "options": {"student": TOOL_STUDENT, "model": CLIENT, "engine": {**ENGINE, "batch": 2}},
        },
    },
    "paper:vqa": {  # whose examples of the other environments are not known to us
        "open-ended": {
            **ALL,
            "task": "gqa",
            "student": "vlm:google/paligemma-3b-pt-224",
            "engine": "text-to-image",
            "teacher": "open-ended-llm",
            "steps": 5,
            "rows": 1004,  # 2 for each error, of which there are 502 at most
            "options": {
                "student": IMAGE_STUDENT,
                "model": CLIENT,
                "engine": {"model": "stabilityai/sdxl-turbo", "judge": "none"},  # nobody looked at its pictures
                "env": {"shown": 36},
                "teacher": {"errors": 36},
            },
        },
    },
}


def preset(name: str, env: str) -> dict[str, Any]:
    """The settings of a preset for an environment. Raises UnknownId, naming the nearest, or InvalidData."""
    if name not in PRESETS:
        raise UnknownId(f"No preset is called '{name}'{meant(name, PRESETS) or '.'} There are: {', '.join(PRESETS)}.")
    if env not in PRESETS[name]:
        raise InvalidData(f"Preset '{name}' has no settings for --env {env}; it has {', '.join(PRESETS[name])}.")
    return dict(PRESETS[name][env])


def merged(settings: Settings, own: Settings) -> dict[str, Any]:
    """A preset's `settings` with the user's `own` in their place; options are merged one by one.

    A teacher or engine of the user's is another part, so the options of the preset's do not hold for it.
    """
    changed = {"teacher", "engine"} & own.keys()
    options = {part: dict(values) for part, values in settings.get("options", {}).items() if part not in changed}
    for part, values in own.get("options", {}).items():
        options[part] = {**options.get(part, {}), **values}
    return {**settings, **own, "options": options}
