"""Simulated students and the task they learn: worlds whose laws are known, in which an episode takes a second.

A world says how well each skill is known at first, and what a step's rows do for it. Task and student are ordinary
parts ("simulated:WORLD" for both), so any teacher meets them through the real environments. What a teacher is worth
here is how it copes with the one thing a world is about; it is no evidence for real students.

Source: the toy beds of the project's catalogue of teachers; the idea of a suite of challenges is TeachMyAgent's (2021),
https://arxiv.org/abs/2103.09815.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from dataenv.errors import InvalidData, UnknownId
from dataenv.records import Example, Problem, Prompt, Reply, Split, TeachReport, Verdict, content_hash
from dataenv.registry import nearest
from dataenv.seeding import stream
from dataenv.tasks.splits import draw_texts

CAP = 0.98
"""The most that can be learnt of a skill."""
SPREAD = 4.0
"""How alike the items of a skill are: pass rates are Beta(4p, 4(1-p)) around the ability p."""
SLOPE = 8.0
"""Of the logistic curve of success over difficulty, in worlds that have one."""


@dataclass(frozen=True)
class World:
    """The laws of one. Abilities (K,) are the shares of a skill's problems that are solved."""

    start: tuple[float, ...]
    """The untaught student."""
    rates: tuple[float, ...]
    """What a step of nothing but right rows of a skill adds to its ability; 0 for what cannot be learnt."""
    rows: int = 80
    """Rows of a step; more than these teach more."""
    steps: int = 30
    chain: bool = False
    """Whether each skill builds on the one before: its gain is multiplied by the square of that one's ability."""
    forgets: float = 0.0
    """What an ability loses in a step without rows of its skill; in proportion less with up to 1/K of the rows."""
    noisy: bool = False
    """Whether answers are drawn anew after each lesson; else the same problems stay solved."""
    swapped: tuple[int, int] | None = None
    """Two skills whose problems bear each other's names in the feedback split."""
    graded: bool = False
    """Whether success falls with the problem's difficulty, around the ability."""
    wrong: float = 0.0
    """Share of rows that the engine gets wrong; a wrong row undoes a right one."""

    @property
    def skills(self) -> tuple[str, ...]:
        return tuple(f"s{i + 1}" for i in range(len(self.start)))

    def after(self, abilities: NDArray[Any], shares: NDArray[Any]) -> NDArray[np.float64]:
        """(K,): the abilities after a lesson with `shares` (K,) of a step's rows, wrong ones subtracted."""
        gains = np.array(self.rates) * np.maximum(shares, 0.0)
        if self.chain:
            gains *= np.concatenate([[1.0], abilities[:-1]]) ** 2
        loss = self.forgets * np.maximum(1 - len(abilities) * shares, 0.0)
        top = np.maximum(abilities, CAP)  # what is known perfectly stays so
        found: NDArray[np.float64] = np.clip(abilities + gains - loss, 0.0, top)
        return found


_ONE = (0.05, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0)
_RATE = (0.06, *[0.0] * 7)

WORLDS = {
    "one-learnable": World(_ONE, _RATE),
    "mostly-unlearnable": World((0.05, *[0.0] * 6, 1.0), _RATE),
    "mostly-mastered": World((0.05, 0.0, *[1.0] * 6), _RATE),
    "noisy-distractors": World((0.05, *[0.5] * 7), _RATE, noisy=True),
    "chain": World((0.05,) * 5, (0.25,) * 5, rows=100, chain=True),
    "forgetful": World(
        (0.2, 0.2, 0.0, 0.0, 0.0, 0.0, 0.9, 0.9), (0.06, 0.06, 0.0, 0.0, 0.0, 0.0, 0.06, 0.06), forgets=0.02
    ),
    "noisy-engine": World(_ONE, _RATE, wrong=0.3),
    "misleading-feedback": World(_ONE, _RATE, swapped=(0, 7)),
    "tiny-budget": World(_ONE, (0.2, *[0.0] * 7), steps=5),
    "graded": World((0.2,), (0.01,), rows=50, steps=40, graded=True),
}
"""`one-learnable`, `noisy-distractors`, `chain` and `graded` are TOY-1, TOY-N, TOY-CHAIN and TOY-D of the catalogue."""


def world(name: str) -> World:
    """Raises UnknownId, naming the nearest, where there is no such world."""
    if name not in WORLDS:
        near = nearest(name, WORLDS)
        hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
        raise UnknownId(f"No simulated world is called '{name}'; {hint}There are: {', '.join(WORLDS)}.")
    return WORLDS[name]


class SimulatedTask:
    """The answer to "SKILL NUMBER PERCENT" is "SKILL:NUMBER"; the percentage is the difficulty. It recognises nothing,
    so that what an engine got wrong is found out by nobody but the student."""

    max_new_tokens = 8
    default_engine = "procedural"

    def __init__(self, name: str) -> None:
        self.world = world(name)
        self.name = f"simulated:{name}"
        self.skills = self.world.skills
        chain = zip(self.skills[1:], self.skills, strict=False) if self.world.chain else ()
        self.prerequisites: Mapping[str, tuple[str, ...]] = {skill: (before,) for skill, before in chain}
        if self.world.wrong:
            self.default_engine = f"noisy-engine:{self.world.wrong}"

    def problems(self, split: Split, per_skill: int | None, seed: int) -> list[Problem]:
        if per_skill is None:
            raise InvalidData(f"Task '{self.name}' has no end of problems; ask for a number of each skill.")
        found = []
        for i, skill in enumerate(self.skills):
            drawn = self._draw(skill, per_skill, None, split, stream(seed, split, skill))
            if split == "feedback" and self.world.swapped and i in self.world.swapped:
                other = self.skills[sum(self.world.swapped) - i]
                drawn = [problem.model_copy(update={"skill": other}) for problem in drawn]
            found += drawn
        return found

    def held_out(self) -> tuple[Prompt, ...]:
        return ()

    def verify(self, problem: Problem, response: str) -> Verdict:
        right = response == problem.answer
        return Verdict(float(right), right, "" if right else f"expected {problem.answer}", response)

    def recognise(self, prompt: Prompt) -> None:
        return None

    def write(self, skill: str, n: int, difficulty: float | None, rng: np.random.Generator) -> list[Problem]:
        return self._draw(skill, n, difficulty, "pool", rng)

    def _draw(
        self, skill: str, n: int, difficulty: float | None, split: Split, rng: np.random.Generator
    ) -> list[Problem]:
        def one() -> tuple[str, tuple[int, int]]:
            number = int(rng.integers(10**9))
            percent = int(rng.integers(101)) if difficulty is None else round(100 * difficulty)
            return f"{skill} {number} {percent}", (number, percent)

        return [
            Problem.model_construct(
                prompt=Prompt(text=text),
                answer=f"{skill}:{number}",
                skill=skill,
                subskill=None,
                difficulty=percent / 100,
                solution="",
                data={},
            )
            for text, (number, percent) in draw_texts(one, split, n)
        ]


class SimulatedStudent:
    """A student whose abilities follow the laws of its world; it reads of a row only whether it is right."""

    shots = 0

    def __init__(self, name: str) -> None:
        self.world = world(name)
        self.name = f"simulated:{name}"
        self.reset()

    @property
    def version(self) -> str:
        return content_hash(self.abilities.tolist(), self.lessons)

    def reset(self) -> None:
        self.abilities = np.array(self.world.start)
        self.lessons = 0

    def teach(self, examples: Sequence[Example], *, seed: int) -> TeachReport:
        if not examples:
            return TeachReport(0, 0, None)
        net = dict.fromkeys(self.world.skills, 0)
        for example in examples:
            skill, number, _ = _read(example.prompt.text)
            if skill in net:
                net[skill] += 1 if example.completion == f"{skill}:{number}" else -1
        self.abilities = self.world.after(self.abilities, np.array(list(net.values())) / self.world.rows)
        self.lessons += 1
        return TeachReport(len(examples), len(examples), 1.0 - float(self.abilities.mean()))

    def answer(
        self,
        prompts: Sequence[Prompt],
        *,
        max_new_tokens: int,
        shots: Sequence[Example] = (),
        samples: int = 1,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> list[list[Reply]]:
        ability = dict(zip(self.world.skills, self.abilities.tolist(), strict=True))
        read = [_read(prompt.text) for prompt in prompts]
        p = np.array([ability.get(skill, 0.0) for skill, _, _ in read])
        if self.world.graded:
            p = 1 / (1 + np.exp(-SLOPE * (p - np.array([level for _, _, level in read]))))
        salt = self.version if self.world.noisy else ""
        place = np.array([crc32(f"{prompt.text} {salt}".encode()) / 2**32 for prompt in prompts])
        if temperature:
            rates = p if self.world.graded else _rates(p, place)
            right = stream(seed, "answers").random((len(read), samples)) < rates[:, None]
        else:
            right = np.repeat((place < p)[:, None], samples, axis=1)
        return [
            [Reply(f"{skill}:{number}" if yes else "?", "stop", 1) for yes in row]
            for (skill, number, _), row in zip(read, right.tolist(), strict=True)
        ]

    def clone_state(self) -> Any:
        return self.abilities, self.lessons

    def restore_state(self, state: Any) -> None:
        self.abilities, self.lessons = state

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        state = {"name": self.name, "abilities": self.abilities.tolist(), "lessons": self.lessons}
        (folder / "student.json").write_text(json.dumps(state))

    def load(self, folder: Path) -> None:
        state = json.loads((folder / "student.json").read_text())
        if state["name"] != self.name:
            raise InvalidData(f"{folder} holds '{state['name']}'; this student is '{self.name}'.")
        self.abilities, self.lessons = np.array(state["abilities"]), int(state["lessons"])

    def close(self) -> None:
        pass


def _read(text: str) -> tuple[str, str, float]:
    """Skill, number and difficulty of a prompt; a prompt of another kind is of no skill."""
    words = text.split()
    if len(words) != 3 or not words[2].isdigit():
        return "", "", 0.5
    return words[0], words[1], int(words[2]) / 100


def _rates(p: NDArray[Any], place: NDArray[Any]) -> NDArray[np.float64]:
    """Pass rates of items whose places among those of their skills are given, the easiest at 0: so that what is solved
    greedily is what passes most, and the mean is p."""
    from scipy.special import betaincinv

    inside = (p > 0) & (p < 1)
    q = np.where(inside, p, 0.5)
    found: NDArray[np.float64] = np.where(inside, betaincinv(SPREAD * q, SPREAD * (1 - q), 1 - place), p)
    return found
