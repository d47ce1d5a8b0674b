"""Fakes that need no torch: a tiny task and a scripted student. Tests get their classes through the fixture `fakes`."""

import json
import signal
from types import MappingProxyType, SimpleNamespace
from zlib import crc32

import pytest
from hypothesis import settings

from dataenv.envs.skill_list import SkillListEnv
from dataenv.records import Problem, Reply, TeachReport, Verdict, content_hash
from dataenv.registry import Entry
from dataenv.students import students
from dataenv.tasks import tasks
from dataenv.tasks.splits import draw

settings.register_profile("dataenv", deadline=None)  # how long an example takes is the machine's affair
settings.load_profile("dataenv")

# Begun in the background, as by `make test &`, this process and all it starts would ignore Ctrl-C, which is tested.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Toy:
    """A procedural task: the answer to "SKILL NUMBER" is "SKILL:NUMBER". Asking for the exam is an error."""

    name = "toy"
    prerequisites = MappingProxyType({})
    default_engine = "procedural"
    max_new_tokens = 8

    def __init__(self, skills=("a", "b", "c"), unexamined=(), empty=False):
        self.skills, self.unexamined, self.empty = tuple(skills), tuple(unexamined), empty
        self.asked = []

    def _one(self, skill, difficulty, rng):
        n = int(rng.integers(10**6))
        return Problem(prompt=f"{skill} {n}", answer=f"{skill}:{n}", skill=skill, difficulty=difficulty)

    def problems(self, split, per_skill, seed):
        assert split != "exam", "the exam split was asked for"
        self.asked.append((split, per_skill, seed))
        if self.empty:
            return []
        from dataenv.seeding import stream

        return [
            problem
            for skill in self.skills
            if not (skill in self.unexamined and split == "feedback")
            for problem in draw(
                lambda rng, s=skill: self._one(s, None, rng), split, per_skill, stream(seed, split, skill)
            )
        ]

    def held_out(self):
        return ()

    def verify(self, problem, response):
        right = response == problem.answer
        return Verdict(float(right), right, "" if right else f"expected {problem.answer}", response)

    def recognise(self, prompt):
        skill, _, number = prompt.text.partition(" ")
        if skill not in self.skills or not number.isdigit():
            return None
        return Problem(prompt=prompt, answer=f"{skill}:{number}", skill=skill)

    def write(self, skill, n, difficulty, rng):
        return draw(lambda rng: self._one(skill, difficulty, rng), "pool", n, rng)


class FixedToy:
    """The toy task as a finite data set that cannot write: `per_skill` problems of each skill in every split."""

    name = "fixed-toy"
    prerequisites = MappingProxyType({})
    default_engine = "pool"
    max_new_tokens = 8

    def __init__(self, skills=("a", "b"), per_skill=20, exam=()):
        toy = Toy(skills)
        self.skills, self.exam, self.verify, self.recognise = toy.skills, tuple(exam), toy.verify, toy.recognise
        self._rows = {
            split: toy.problems(split, per_skill, 0) for split in ("exemplar", "feedback", "selection", "pool")
        }

    def problems(self, split, per_skill, seed):
        return [p for s in self.skills for p in [p for p in self._rows[split] if p.skill == s][:per_skill]]

    def held_out(self):
        return self.exam


class Scripted:
    """A student that solves a fixed share of each skill's prompts, its ability, which rises with the rows taught."""

    name = "scripted"

    def __init__(self, prior=None, shots=0, few_shot_bonus=0.0, half_way=100, unlearnable=()):
        self.prior = {"a": 0.1, "b": 0.5, "c": 0.9} if prior is None else dict(prior)
        self.shots, self.bonus, self.half_way, self.unlearnable = shots, few_shot_bonus, half_way, tuple(unlearnable)
        self.rows = {}
        self.calls = []
        self.break_in = {}
        """Method name -> exception it raises, after having done half its work."""
        self.lessons = []
        self.closed = 0

    def ability(self, skill):
        rows = 0 if skill in self.unlearnable else self.rows.get(skill, 0)
        prior = self.prior.get(skill, 0.0)
        return prior + (1 - prior) * rows / (rows + self.half_way)

    @property
    def version(self):
        if "version" in self.break_in:
            raise self.break_in["version"]
        return content_hash(self.rows)

    def teach(self, examples, *, seed):
        self.calls.append("teach")
        for i, example in enumerate(examples):
            if "teach" in self.break_in and i == len(examples) // 2:
                raise self.break_in["teach"]
            self.rows[example.skill] = self.rows.get(example.skill, 0) + 1
        self.lessons.append((list(examples), seed))
        return TeachReport(len(examples), 10 * len(examples), 1.0 if examples else None)

    def answer(self, prompts, *, max_new_tokens, shots=(), samples=1, temperature=0.0, seed=0):
        self.calls.append("answer few" if shots else "answer")
        if "answer" in self.break_in:
            raise self.break_in["answer"]
        replies = []
        for prompt in prompts:
            skill, _, number = prompt.text.partition(" ")
            knows = crc32(prompt.text.encode()) / 2**32 < self.ability(skill) + (self.bonus if shots else 0.0)
            replies.append([Reply(f"{skill}:{number}" if knows else "?", "stop", 3)] * samples)
        return replies

    def reset(self):
        self.calls.append("reset")
        self.rows = {}

    def clone_state(self):
        return dict(self.rows)

    def restore_state(self, state):
        self.rows = dict(state)

    def save(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "rows").write_text(repr(self.rows))

    def load(self, folder):
        self.rows = eval((folder / "rows").read_text())

    def close(self):
        self.closed += 1


def make_env(task=None, student=None, **options):
    """A SkillList environment over the fakes: 20 rows a step, 8 feedback problems a skill."""
    options = {"rows": 20, "feedback": 8, **options}
    return SkillListEnv(Toy() if task is None else task, Scripted() if student is None else student, **options)


def deal(env, *rows, difficulty=-1.0):
    """The action that asks for `rows` (0 for skills not named)."""
    import numpy as np

    k = len(env.unwrapped.task.skills)
    return {
        "rows": np.array([*rows, *[0] * (k - len(rows))], dtype=np.int64),
        "difficulty": np.full(k, difficulty, dtype=np.float64),
    }


class ChatModel:
    """A language model without a server: `answer(question)` gives its text, data to write as JSON, or an error."""

    id, where = "scripted", "The scripted model"

    def __init__(self, answer):
        self.answer = answer
        self.asked = []

    async def complete(self, question):
        from dataenv.chat.question import Completion

        self.asked.append(question)
        found = self.answer(question)
        if isinstance(found, BaseException):
            raise found
        return Completion(text=found if isinstance(found, str) else json.dumps(found), completion_tokens=1)

    async def check(self):
        return True

    async def close(self):
        pass


@pytest.fixture
def chat():
    """`chat(answer)`: a client of a scripted model; `client.model.asked` are the questions it got."""
    pytest.importorskip("jsonschema")
    from dataenv.chat.client import Client

    return lambda answer, **options: Client(ChatModel(answer), **{"tries": 1, **options})


@pytest.fixture(scope="session")
def fakes():
    return SimpleNamespace(Toy=Toy, FixedToy=FixedToy, Scripted=Scripted, make_env=make_env, deal=deal)


@pytest.fixture
def registered(monkeypatch):
    """The fakes under the ids "toy" and "scripted", for `gymnasium.make`."""
    monkeypatch.setitem(tasks._entries, "toy", Entry(Toy))
    monkeypatch.setitem(students._entries, "scripted", Entry(Scripted))
