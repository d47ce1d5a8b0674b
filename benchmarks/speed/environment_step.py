"""A whole step, 200 rows taught and the feedback problems examined: ours, against the same put together from TRL's
SFTTrainer and `transformers.generate`.

    python -m dataenv.benchmarks.speed.environment_step [--rows 200] [--problems 112] [--repeats 5] [--out FILE]

SmolLM2-135M on `arithmetic`; both teach rows of the same plan from the untaught student. `outcome` is the share of
problems solved after it. Needs trl and peft. Target: at most 20 s for ours on 2 cores with AMX.
"""

from __future__ import annotations

import time
from typing import Any

from dataenv.agents import teachers
from dataenv.benchmarks.speed.generation import static
from dataenv.benchmarks.speed.side_by_side import Case, compare, options, publish
from dataenv.benchmarks.speed.training import trl
from dataenv.envs.skill_list import SkillListEnv
from dataenv.students import make_student
from dataenv.students.causal_lm import CausalLM
from dataenv.tasks import tasks


def ours(env: SkillListEnv) -> Case:
    teacher = teachers.make("uniform")
    teacher.reset(0)
    observation, info = env.reset(seed=0)
    action, here = env.action(teacher.act(observation, info)), env.clone_state()

    def case() -> Any:
        env.restore_state(here)
        return lambda: env.step(action), 1, lambda: round(env.situation.examination.accuracy, 3)

    return case


def peers(env: SkillListEnv, student: CausalLM, rows: int) -> Case:
    """Train with TRL, merge the adapter, answer with `generate`, verify."""
    examples = env.situation.taught
    tokens = [student.encoder.row(example) for example in examples][:rows]
    prompts = [student.encoder.prompt(problem.prompt) for problem in env.problems]

    def case() -> Any:
        texts: list[str] = []
        train, _, trained = trl(student.base.place(), tokens, 1, lambda model: model)()
        solved: list[bool] = []

        def work() -> None:
            train()
            merged = trained().merge_and_unload()
            answer, _, _ = static(merged, student.encoder, prompts, 35, texts)()
            answer()
            solved[:] = [env.task.verify(p, text).correct for p, text in zip(env.problems, texts, strict=True)]

        return work, 1, lambda: round(sum(solved) / len(solved), 3)

    return case


def main() -> None:
    """Print the figures as JSON."""
    given = options(__doc__, rows=200, problems=112, repeats=5)
    task, student = tasks.make("arithmetic"), make_student("smollm2-135m")
    assert isinstance(student, CausalLM)
    env = SkillListEnv(task, student, rows=given.rows, steps=10, feedback=given.problems // len(task.skills))
    begin = time.perf_counter()
    mine = ours(env)
    step, _, _ = mine()
    step()  # its rows are what the peers teach
    cases = {"dataenv": mine, "trl_generate": peers(env, student, given.rows)}
    about = {"rows": given.rows, "problems": len(env.problems), "model": "smollm2-135m"}
    figures = compare("environment_step", "steps", cases, given.repeats, **about)
    publish({**figures, "seconds_in_all": round(time.perf_counter() - begin)}, given.out)


if __name__ == "__main__":
    main()
