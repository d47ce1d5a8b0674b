"""The sealed exam: minted or loaded only here, after the episode, and sat by the untaught and the taught student."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dataenv.envs.teaching import TeachingEnv
from dataenv.examine import Examination, examine, examine_untaught, paired
from dataenv.progress import Clock
from dataenv.protocols import Task
from dataenv.records import Problem
from dataenv.runs.config import RunConfig
from dataenv.seeding import child_seed


def sit_exam(config: RunConfig, steps: Path, env: TeachingEnv[Any, Any]) -> dict[str, Any]:
    """Exam results of the untaught and the selected student on the same problems, as an event's content.

    Gains count from the better of the untaught student's plain and few-shot accuracy. A problem whose prompt was
    taught is left out and counted; for tasks that mint their exam this cannot happen unless a teacher wrote the row.
    """
    task, student, now = env.task, env.student, env.situation
    taught = {example.prompt.key for example in now.taught}
    clock = Clock()
    with clock("exam"):
        chosen, scores = _select(config, steps, env)
        drawn = exam_problems(config, task)
        problems = [problem for problem in drawn if problem.prompt.key not in taught]
        state = student.clone_state()
        student.reset()
        before, baseline = examine_untaught(task, student, problems, env.exemplars)
        student.restore_state(state)
        after = examine(task, student, problems) if chosen else before
    change = paired(before, after)
    skills = {score.skill: [score] for score in before.by_skill(task.skills)}
    for score in after.by_skill(task.skills):
        skills[score.skill].append(score)
    return {
        "n": change.n,
        "left_out": len(drawn) - len(problems),
        "before": {"accuracy": before.accuracy, "error": before.error, **baseline},
        "after": {"accuracy": after.accuracy, "error": after.error, "overlong": after.overlong},
        "gain": change.gain,
        "gain_error": change.error,
        "by_skill": {
            name: {"n": old.n, "before": old.accuracy, "after": new.accuracy} for name, (old, new) in skills.items()
        },
        **_group_score(before, after),
        "problems": [attempt.problem.id[:16] for attempt in before.attempts],
        "solved": {"before": marks(before), "after": marks(after)},
        "selected_step": chosen,
        "rule": config.select,
        "selection": scores,
        "student_version": student.version,
        "seconds": dict(clock),
    }


def _group_score(before: Examination, after: Examination) -> dict[str, Any]:
    """The shares of groups solved whole, beside the accuracy, which counts single problems; nothing without groups."""
    (old, n), (new, _) = before.groups, after.groups
    return {"group_score": {"n": n, "before": old / n, "after": new / n}} if n else {}


def exam_problems(config: RunConfig, task: Task) -> list[Problem]:
    """What the exam of a run draws, what was taught included: for the exam itself, and for those who check it."""
    return task.problems("exam", config.exam, child_seed(config.seed, "exam"))


def marks(examination: Examination) -> str:
    """1 for each problem that was solved, 0 for each that was not, in order: two runs can be compared on equal ones."""
    return "".join("01"[attempt.correct] for attempt in examination.attempts)


def _select(config: RunConfig, steps: Path, env: TeachingEnv[Any, Any]) -> tuple[int, dict[str, float]]:
    """Leave the student to be judged in `env.student`; returns its step, and accuracies on the selection split.

    "best" prefers the earlier of two equally good students. Step 0 is the untaught one.
    """
    if config.select == "last":
        return env.situation.step, {}
    problems = env.task.problems("selection", config.feedback, child_seed(config.seed, "selection"))
    scores: dict[str, float] = {}
    for step in range(env.situation.step + 1):
        _put_back(env, steps, step)
        if step:
            exam = examine(env.task, env.student, problems)
        else:
            exam, _ = examine_untaught(env.task, env.student, problems, env.exemplars)
        scores[str(step)] = exam.accuracy
    best = max(scores, key=lambda step: (scores[step], -int(step)))
    _put_back(env, steps, int(best))
    return int(best), scores


def _put_back(env: TeachingEnv[Any, Any], steps: Path, step: int) -> None:
    if step == 0:
        env.student.reset()
    else:
        env.student.load(steps / f"{step:03d}" / "student")
