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
from dataenv.registry import nearest

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
CLIENT: Settings = {"tries": 3, "wait": 1.0, "longest_wait": 30.0}
ENGINE: Settings = {"batch": 10, "temperature": None}  # ten specifications a call, at the server's own temperature

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
}


def preset(name: str, env: str) -> dict[str, Any]:
    """The settings of a preset for an environment. Raises UnknownId, naming the nearest, or InvalidData."""
    if name not in PRESETS:
        near = nearest(name, PRESETS) or list(PRESETS)
        raise UnknownId(f"No preset is called '{name}'; there is {' and '.join(repr(known) for known in near)}.")
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
