"""The micro student on drills: seconds per step of 512 rows and 256 feedback problems, and what ten steps teach it.

    python -m dataenv.benchmarks.speed.micro_step

Target: at most 1.5 s a step on 2 cores; ten steps with `uniform` raise feedback accuracy by at least 0.15.
"""

from __future__ import annotations

import json
import statistics
import time

from dataenv.agents import teachers
from dataenv.envs.skill_list import SkillListEnv
from dataenv.tasks import tasks

PROBLEMS = 256


def main() -> None:
    """Three episodes of ten steps; prints one JSON object."""
    task = tasks.make("drills")
    per_skill = -(-PROBLEMS // len(task.skills))
    seconds, gains = [], []
    for seed in range(3):
        env = SkillListEnv(task, "micro", rows=512, steps=10, feedback=per_skill)
        teacher = teachers.make("uniform")
        teacher.reset(seed)
        observation, info = env.reset(seed=seed)
        before, over = info["feedback"].accuracy, False
        while not over:
            action = env.action(teacher.act(observation, info))
            begin = time.perf_counter()
            observation, _, terminated, truncated, info = env.step(action)
            seconds.append(time.perf_counter() - begin)
            over = terminated or truncated
        gains.append(info["feedback"].accuracy - before)
        env.close()
    figures = {
        "step_seconds_median": round(statistics.median(seconds), 3),
        "step_seconds_max": round(max(seconds), 3),
        "problems": per_skill * len(task.skills),
        "gain_over_ten_steps": [round(gain, 3) for gain in gains],
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
