"""A task under discovered skills: the same problems, other labels, so that everything that takes a task takes it."""

from __future__ import annotations

import difflib
import math
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dataenv.chat.introduce import introduce
from dataenv.errors import UnknownId
from dataenv.protocols import AuthoredTask, Discovery, ProceduralTask, Task
from dataenv.records import Problem, Prompt, Split, Verdict
from dataenv.seeding import stream
from dataenv.skills import discoveries
from dataenv.spaces import allocate

FITTED = 512
"""About how many feedback problems skills are discovered from when a task has no end."""
WIDEST = 8
"""How many times as many problems as wanted are drawn, at most, to find enough of a skill that is rare."""
TRIES = 5
"""How often a task is asked to write what is still missing of a gold skill."""
REMEMBERED = 16_384
"""Prompts whose skill is kept: the gate asks for each row what the engine has just asked for."""


def discovered(task: Task, spec: str | Discovery | None, client: Any = None) -> Task:
    """`task` under the skills that `spec` finds: an id of `dataenv.skills.discoveries` ("cluster", "file:PATH") or an
    object. None and "gold" leave the task as it is. `client` is for one that asks a language model.

    An object that is fitted already (`discovery.thaw`) is used as it is; any other is fitted on feedback problems,
    which do not depend on an episode's seed.
    """
    if spec is None or spec == "gold":
        return task
    discovery = discoveries.make(spec) if isinstance(spec, str) else spec
    introduce(client, discovery)
    return (DiscoveredProcedural if isinstance(task, ProceduralTask) else Discovered)(task, discovery)


def sample(task: Task, split: Split = "feedback", per_skill: int | None = None, seed: int = 0) -> list[Problem]:
    """What skills are discovered from: `per_skill` problems of each gold skill.

    None is all of them, or for a procedural task about `FITTED` over all skills.
    """
    if per_skill is None and isinstance(task, ProceduralTask):
        per_skill = math.ceil(FITTED / len(task.skills))
    return task.problems(split, per_skill, seed)


class Discovered:
    """A `Task` whose skills are those of `discovery`.

    `composition` says which gold skills the problems of each skill come from, on the feedback problems the discovery
    was fitted on. Prerequisites are not known between discovered skills. Problems that map to none of `skills` (they
    are then "other", and none of the feedback problems was) are in no split.
    """

    def __init__(self, task: Task, discovery: Discovery) -> None:
        self.task, self.discovery = task, discovery
        self.name = f"{task.name} by {discovery.name}"
        self.prerequisites: Mapping[str, tuple[str, ...]] = {}
        self.default_engine = task.default_engine
        self.max_new_tokens = task.max_new_tokens
        if isinstance(task, AuthoredTask):  # a written row states no skill
            self.row_form, self.row_guide, self.told, self.read = task.row_form, task.row_guide, task.told, task.read
        self._remembered: OrderedDict[str, str] = OrderedDict()
        problems = sample(task)
        if not discovery.skills:
            discovery.fit(problems)
        skills = discovery.skills_of(problems)
        self.skills = tuple(dict.fromkeys((*discovery.skills, *sorted(set(skills)))))
        self.composition: dict[str, Counter[str]] = {skill: Counter() for skill in self.skills}
        for problem, skill in zip(problems, skills, strict=True):
            self.composition[skill][problem.skill] += 1

    def problems(self, split: Split, per_skill: int | None, seed: int) -> list[Problem]:
        """Up to `per_skill` problems of each discovered skill, in an order drawn from `seed`, grouped by skill.

        A procedural task writes up to 8 times as many to find them; fewer come of a skill that is rarer still.
        """
        groups = self._groups(split, per_skill, seed)
        rng = stream(seed, "discovered", split)
        chosen: list[Problem] = []
        for skill in self.skills:
            group = groups[skill]
            chosen += [group[i] for i in rng.permutation(len(group))[:per_skill]]
        return chosen

    def held_out(self) -> Sequence[Prompt]:
        """The task's own."""
        return self.task.held_out()

    def verify(self, problem: Problem, response: str) -> Verdict:
        """The task's own verdict: what is right does not depend on a problem's label (nor does its id)."""
        return self.task.verify(problem, response)

    def recognise(self, prompt: Prompt) -> Problem | None:
        """The task's own problem, under its discovered skill."""
        found = self.task.recognise(prompt)
        return None if found is None else self._relabelled([found])[0]

    def _groups(self, split: Split, per_skill: int | None, seed: int) -> dict[str, list[Problem]]:
        """Problems by discovered skill, at least `per_skill` of each where there are so many."""
        return self._grouped(self.task.problems(split, None, seed))

    def _grouped(self, problems: Sequence[Problem]) -> dict[str, list[Problem]]:
        groups: dict[str, list[Problem]] = {skill: [] for skill in self.skills}
        for problem in self._relabelled(problems):
            if problem.skill in groups:
                groups[problem.skill].append(problem)
        return groups

    def _relabelled(self, problems: Sequence[Problem]) -> list[Problem]:
        known = self._remembered
        new = [problem for problem in problems if problem.prompt.key not in known]
        skills = dict(zip((p.prompt.key for p in new), self.discovery.skills_of(new), strict=True)) if new else {}
        found = [
            problem.model_copy(update={"skill": skills.get(problem.prompt.key) or known[problem.prompt.key]})
            for problem in problems
        ]
        known |= skills
        while len(known) > REMEMBERED:
            known.popitem(last=False)
        return found


class DiscoveredProcedural(Discovered):
    """The same over a task that can write problems: this one can, too."""

    task: ProceduralTask

    def write(self, skill: str, n: int, difficulty: float | None, rng: np.random.Generator) -> list[Problem]:
        """`n` solved problems of the pool that map to `skill`, in the proportions of its `composition`.

        Fewer come where five tries under one of them bring fewer. Raises UnknownId for a skill that is not there.
        """
        if skill not in self.composition:
            near = difflib.get_close_matches(skill, self.skills, n=1, cutoff=0.4)
            hint = f"did you mean '{near[0]}'? " if near else ""
            raise UnknownId(f"{self.name} has no skill '{skill}'; {hint}It has: {', '.join(self.skills)}.")
        sources = sorted(self.composition[skill].items())
        shares = allocate([count for _, count in sources], n) if sources else ()
        found: dict[str, Problem] = {}
        for (gold, count), rows in zip(sources, shares, strict=True):
            # Of what is written under `gold`, this share has `skill`: so many times as many are asked for.
            share = max(count / sum(counts[gold] for counts in self.composition.values()), 1 / WIDEST)
            end = len(found) + int(rows)
            for _ in range(TRIES):
                if len(found) >= end:
                    break
                written = self.task.write(gold, math.ceil((end - len(found)) / share), difficulty, rng)
                for problem in self._relabelled(written):
                    if problem.skill == skill and len(found) < end:
                        found.setdefault(problem.prompt.key, problem)
        return list(found.values())

    def _groups(self, split: Split, per_skill: int | None, seed: int) -> dict[str, list[Problem]]:
        if per_skill is None:
            return super()._groups(split, None, seed)
        wider, drawn, groups = 1, -1, {}
        while wider <= WIDEST:
            problems = self.task.problems(split, per_skill * wider, seed)
            groups = self._grouped(problems)
            if len(problems) == drawn or all(len(groups[skill]) >= per_skill for skill in self.skills):
                break
            wider, drawn = 2 * wider, len(problems)
        return groups
