"""A world of scripted parts, in which runs tell what they do and fail where they shall."""

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from dataenv.agents import teachers
from dataenv.agents.controls import Random
from dataenv.errors import InvalidData
from dataenv.records import Problem
from dataenv.registry import Entry
from dataenv.runs.config import RunConfig
from dataenv.runs.episode import start
from dataenv.students import students
from dataenv.tasks import tasks

PLAN = {"task": "exam-toy", "student": "clerk", "teacher": "dice", "steps": 3, "rows": 12, "feedback": 4, "exam": 5}


class World(SimpleNamespace):
    """What happened, in order, and what shall go wrong: `trouble` maps a place to (which visit, exception)."""

    def __init__(self):
        super().__init__(seen=[], trouble={}, visits=Counter(), exam=[], ability=None)

    def at(self, place):
        self.seen.append(place)
        self.visits[place] += 1
        for name in (place, "anywhere"):
            if name == "anywhere":
                self.visits[name] += 1
            visit, error = self.trouble.get(name, (0, None))
            if self.visits[name] == visit:
                raise error

    def event(self, event):
        self.seen.append(event["event"])

    def calm(self):
        self.seen.clear()
        self.trouble.clear()
        self.visits.clear()


@pytest.fixture
def world(fakes, monkeypatch):
    """The parts "exam-toy", "clerk" and "dice", which tell the world what they do, and files that can be full."""
    world = World()

    class ExamToy(fakes.Toy):
        """The toy task with an exam, and with prompts that are found again in any file."""

        def _one(self, skill, difficulty, rng):
            number = f"{int(rng.integers(10**12)):012d}"
            return Problem(prompt=f"{skill} {number}", answer=f"{skill}:{number}", skill=skill, difficulty=difficulty)

        def problems(self, split, per_skill, seed):
            world.at(split)
            if split != "exam":
                return super().problems(split, per_skill, seed)
            from dataenv.seeding import stream
            from dataenv.tasks.splits import draw

            found = [
                problem
                for skill in self.skills
                for problem in draw(
                    lambda rng, s=skill: self._one(s, None, rng), "exam", per_skill, stream(seed, "exam", skill)
                )
            ]
            world.exam += found
            return found

    class Clerk(fakes.Scripted):
        """The scripted student; its weights are a JSON file."""

        def ability(self, skill):
            return super().ability(skill) if world.ability is None else world.ability(sum(self.rows.values()))

        def teach(self, examples, *, seed):
            report = super().teach(examples, seed=seed)
            world.at("teach")
            return report

        def answer(self, prompts, **options):
            replies = super().answer(prompts, **options)
            world.at("answer")
            return replies

        def reset(self):
            super().reset()
            world.at("forget")

        def save(self, folder):
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / "weights").open("w") as file:
                file.write(json.dumps(self.rows))
            world.at("saved")

        def load(self, folder):
            try:
                self.rows = dict(json.loads((folder / "weights").read_text()))
            except (OSError, ValueError, TypeError) as error:
                raise InvalidData(f"{folder}: {error}.") from error

    class Dice(Random):
        name = "dice"

        def act(self, observation, info):
            plan = super().act(observation, info)
            world.at("act")
            return plan

        def observe(self, transition):
            self.last = transition.reward
            world.at("observe")

    class File:
        """A file that is full at the chosen write: half of what should be written is."""

        def __init__(self, file):
            self.file = file

        def __getattr__(self, name):
            return getattr(self.file, name)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, content):
            try:
                world.at("write")
            except OSError:
                self.file.write(content[: len(content) // 2])
                raise
            return self.file.write(content)

    opened = Path.open
    monkeypatch.setattr(
        Path,
        "open",
        lambda path, mode="r", *rest, **options: (
            opened(path, mode, *rest, **options) if mode == "rb" else File(opened(path, mode, *rest, **options))
        ),
    )
    monkeypatch.setitem(tasks._entries, "exam-toy", Entry(ExamToy))
    monkeypatch.setitem(students._entries, "clerk", Entry(Clerk))
    monkeypatch.setitem(teachers._entries, "dice", Entry(Dice))
    return world


@pytest.fixture
def config(world):
    return RunConfig(**PLAN)


@pytest.fixture
def whole(world, config, tmp_path):
    """A run that nothing disturbed: its folder, and the world calm again."""
    folder = tmp_path / "whole"
    start(config, folder)
    world.calm()
    return folder
