"""Forking an environment: milliseconds that `clone_state` and `restore_state` take, student and rows included.

    python -m dataenv.benchmarks.speed.fork

Target: at most 50 ms for micro and 1 s for smollm2-135m with LoRA, each.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from typing import Any

from dataenv.agents import teachers
from dataenv.envs.skill_list import SkillListEnv


def measure(task: str, student: str, rows: int, steps: int) -> dict[str, Any]:
    """Medians of 20 forks, taken after `steps` steps of `rows` rows."""
    env = SkillListEnv(task, student, rows=rows, steps=steps + 1, feedback=1)
    teacher = teachers.make("uniform")
    teacher.reset(0)
    observation, info = env.reset(seed=0)
    for _ in range(steps):
        observation, *_, info = env.step(env.action(teacher.act(observation, info)))
    clone = _milliseconds(env.clone_state)
    state = env.clone_state()
    restore = _milliseconds(lambda: env.restore_state(state))
    env.close()
    return {"student": student, "rows_taught": rows * steps, "clone_ms": clone, "restore_ms": restore}


def _milliseconds(call: Callable[[], Any], times: int = 20) -> float:
    seconds = []
    for _ in range(times):
        begin = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begin)
    return round(1000 * statistics.median(seconds), 2)


def main() -> None:
    """One line for each student."""
    print(json.dumps(measure("drills", "micro", rows=512, steps=4)))
    print(json.dumps(measure("arithmetic", "smollm2-135m", rows=28, steps=1)))


if __name__ == "__main__":
    main()
