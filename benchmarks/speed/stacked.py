"""K environments in one vector, their micro students stacked, against K single environments stepped in turn.

    python -m dataenv.benchmarks.speed.stacked [--envs 8] [--rows 512] [--feedback 16] [--lora 0] [--repeats 5]
        [--out FILE]

A round is one whole step of all K: rows written and checked, students taught (and a quarter as many rows replayed),
feedback problems answered and judged. Both sides carry out the same plans from the same seeds; `outcome` is the mean
feedback accuracy after the last round. With `--lora 1` the students are adapters over one base, in batches of 8.
Target: at least 2.5 times as fast with 8 environments on 2 cores.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from dataenv.benchmarks.speed.side_by_side import Case, compare, options, publish
from dataenv.envs.skill_list import SkillListEnv
from dataenv.students import make_student, make_students
from dataenv.tasks import tasks


def main() -> None:
    """Prints one JSON object; `repeats` rounds of each side."""
    settings = options(__doc__, envs=8, rows=512, feedback=16, lora=0, repeats=5)
    k, task = settings.envs, tasks.make("drills")
    shared = {"task": task, "rows": settings.rows, "feedback": settings.feedback, "steps": settings.repeats + 1}
    method: dict[str, Any] = {"method": "lora", "batch": 8} if settings.lora else {}
    vector: Any = gym.make_vec(
        "dataenv/SkillList-v0", num_envs=k, student=make_students("micro", k, **method), **shared
    )
    singles = [SkillListEnv(student=make_student("micro", **method), **shared) for _ in range(k)]
    vector.reset(seed=0)
    for seed, env in enumerate(singles):
        env.reset(seed=seed)
    skills = len(task.skills)
    plan = {
        "rows": np.diff(np.linspace(0, settings.rows, skills + 1).astype(np.int64)),
        "difficulty": np.full(skills, -1.0, np.float32),
    }

    def stacked() -> None:
        vector.step({part: np.stack([value] * k) for part, value in plan.items()})

    def in_turn() -> None:
        for env in singles:
            env.step(plan)

    def accuracy(envs: list[SkillListEnv]) -> float:
        return round(float(np.mean([env.situation.examination.accuracy for env in envs])), 4)

    cases: dict[str, Case] = {
        "stacked": lambda: (stacked, k, lambda: accuracy(vector.envs)),
        "in turn": lambda: (in_turn, k, lambda: accuracy(singles)),
    }
    kind = "micro (LoRA)" if settings.lora else "micro"
    name = f"{k} {kind} environments, {settings.rows} rows and {settings.feedback * skills} problems a step"
    publish(compare(name, "steps", cases, settings.repeats), settings.out)
    vector.close()
    for env in singles:
        env.close()


if __name__ == "__main__":
    main()
