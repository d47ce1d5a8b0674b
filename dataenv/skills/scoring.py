"""How good discovered skills are: against the task's own, and as a measure of where a student is weak.

A discovery is fitted on feedback problems and judged on them and on fresh ones, of the `selection` split.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from dataenv.protocols import Discovery, Task
from dataenv.records import Attempt, Problem, SkillScore, Split
from dataenv.skills.discovered import sample
from dataenv.skills.discovery import freeze, need_sklearn

SPLITS: tuple[Split, Split] = ("feedback", "selection")
"""What skills are discovered from, and fresh problems. Never the exam."""


class Agreement(NamedTuple):
    """Of two labellings of the same `n` problems.

    `rand` is the adjusted Rand index (Hubert and Arabie 1985): 1 for the same partition, about 0 for chance.
    `information` is the normalised mutual information (arithmetic mean): 1 for the same, 0 for independent ones.
    """

    n: int
    rand: float
    information: float


class Calibration(NamedTuple):
    """Whether what the feedback split says of a skill holds on fresh problems that map to it, over `skills` skills.

    `error` is the mean absolute difference of the two accuracies, `covered` the share of skills where it is at most
    two of its standard errors (both accuracies are samples), 0.95 or so when all is well. `explained` is the share
    of the variance of gold accuracy over the fresh problems (each has its gold skill's) that lies between the
    discovered skills, the correlation ratio: 1 when no discovered skill mixes strong and weak gold skills; None
    without gold skills, or when all are equally weak.
    """

    skills: int
    error: float
    covered: float
    explained: float | None


def agreement(gold: Sequence[str], found: Sequence[str]) -> Agreement:
    """How far two labellings agree."""
    need_sklearn()
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    pair = list(gold), list(found)
    return Agreement(len(gold), float(adjusted_rand_score(*pair)), float(normalized_mutual_info_score(*pair)))


def by_skill(attempts: Sequence[Attempt], skills: Sequence[str]) -> dict[str, SkillScore]:
    """A score for each skill of `skills`, which names the skill of each attempt."""
    n = Counter(skills)
    correct = Counter(skill for attempt, skill in zip(attempts, skills, strict=True) if attempt.correct)
    return {skill: SkillScore(skill=skill, n=n[skill], correct=correct[skill]) for skill in n}


def calibration(discovery: Discovery, feedback: Sequence[Attempt], fresh: Sequence[Attempt]) -> Calibration | None:
    """Attempts of one student at problems under their gold skills; None when no skill is in both."""
    found = discovery.skills_of([attempt.problem for attempt in fresh])
    now = by_skill(fresh, found)
    then = by_skill(feedback, discovery.skills_of([attempt.problem for attempt in feedback]))
    pairs = [(then[skill], now[skill]) for skill in then if skill in now]
    if not pairs:
        return None
    apart = [abs(a.correct / a.n - b.correct / b.n) for a, b in pairs]
    covered = [gap <= 2 * math.hypot(a.error, b.error) for gap, (a, b) in zip(apart, pairs, strict=True)]
    gold = by_skill(fresh, [attempt.problem.skill for attempt in fresh])
    truth = [gold[attempt.problem.skill].correct / gold[attempt.problem.skill].n for attempt in fresh]
    return Calibration(len(pairs), sum(apart) / len(pairs), sum(covered) / len(pairs), explained(truth, found))


def explained(values: Sequence[float], groups: Sequence[str]) -> float | None:
    """Share of the variance of `values` that lies between `groups`; None when there is no variance."""
    mean = sum(values) / len(values)
    total = sum((value - mean) ** 2 for value in values)
    if total <= 1e-12:
        return None
    sums: Counter[str] = Counter()
    for value, group in zip(values, groups, strict=True):
        sums[group] += value - mean  # type: ignore[assignment]
    counts = Counter(groups)
    return min(1.0, sum(sums[group] ** 2 / counts[group] for group in counts) / total)


def score(
    task: Task,
    discovery: Discovery,
    ask: Callable[[Sequence[Problem]], Sequence[Attempt]] | None = None,
    per_skill: int | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Fit `discovery` on feedback problems of `task` and judge it: a JSON object whose "skills" are a table's rows.

    `ask` has a student attempt problems; without it "calibration" is None. `per_skill` counts problems per gold skill
    in both splits; None is as for `sample`. A task with a single skill has no gold labels to agree with: "agreement"
    is then None.
    """
    problems = {split: sample(task, split, per_skill, seed) for split in SPLITS}
    discovery.fit(problems["feedback"])
    found = {split: discovery.skills_of(problems[split]) for split in SPLITS}
    gold = {split: [problem.skill for problem in problems[split]] for split in SPLITS}
    attempts = {split: ask(problems[split]) for split in SPLITS} if ask is not None else None
    scores = {split: by_skill(attempts[split], found[split]) for split in SPLITS} if attempts is not None else {}
    rows = []
    for skill in dict.fromkeys((*discovery.skills, *found["feedback"], *found["selection"])):
        sources = Counter(g for g, s in zip(gold["feedback"], found["feedback"], strict=True) if s == skill)
        row: dict[str, Any] = {"skill": skill, "gold": dict(sorted(sources.items(), key=lambda pair: -pair[1]))}
        for split in SPLITS:
            row[split] = {"n": found[split].count(skill)}
            if attempts is not None:
                known = scores[split].get(skill)
                row[split] |= {"accuracy": known and known.accuracy, "error": known and known.error}
        rows.append(row)
    judged = calibration(discovery, attempts["feedback"], attempts["selection"]) if attempts is not None else None
    return {
        "task": task.name,
        "discovery": discovery.name,
        "hash": freeze(discovery)["hash"],
        "skills": rows,
        "agreement": {split: agreement(gold[split], found[split])._asdict() for split in SPLITS}
        if len(task.skills) > 1
        else None,
        "calibration": judged and judged._asdict(),
    }
