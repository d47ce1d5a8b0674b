"""What the replaceable parts promise each other. The environments know tasks, students and engines only through these.

A part needs no base class: any object with these attributes and methods will do (PEP 544).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from dataenv.records import (
    Example,
    Plan,
    Problem,
    Prompt,
    Record,
    Reply,
    Request,
    Split,
    TeachReport,
    Transition,
    Verdict,
)


@runtime_checkable
class Task(Protocol):
    """A family of verifiable problems, each labelled with a skill."""

    name: str
    skills: tuple[str, ...]
    """Every skill, in a fixed order."""
    prerequisites: Mapping[str, tuple[str, ...]]
    """Skill -> skills it builds on; a skill without an entry builds on none."""
    default_engine: str
    """The engine id that can make rows for this task without further set-up."""
    max_new_tokens: int
    """Tokens a student may need for one reply."""

    def problems(self, split: Split, per_skill: int | None, seed: int) -> list[Problem]:
        """Up to `per_skill` problems of each skill from `split`, grouped by skill, distinct by prompt key.

        The same arguments give the same problems; no problem belongs to two splits. None means all there are
        (procedural tasks, which have no end, then raise InvalidData). Fewer come where the split holds fewer.
        """

    def held_out(self) -> Sequence[Prompt]:
        """Prompts of a fixed exam and selection split, which no training row may resemble; empty when minted."""

    def verify(self, problem: Problem, response: str) -> Verdict:
        """Judge one response. Never raises, never hangs, whatever the text."""

    def recognise(self, prompt: Prompt) -> Problem | None:
        """The true problem behind a prompt, if the task can solve or find it; else None."""


@runtime_checkable
class ProceduralTask(Task, Protocol):
    """A task that can write new solved problems without end."""

    def write(self, skill: str, n: int, difficulty: float | None, rng: np.random.Generator) -> list[Problem]:
        """`n` solved problems of the `pool` split (distinct among themselves), fewer only where no more exist.

        `difficulty` in [0, 1] is the task's own scale, None its natural mix: the mix its splits are drawn from.
        """


@runtime_checkable
class SubdividedTask(ProceduralTask, Protocol):
    """A procedural task that names subskills, and can write problems of one of them."""

    def subskills(self, skill: str) -> tuple[str, ...]:
        """Names of the skill's subskills, distinct, in a fixed order; empty where it has none."""

    def write(
        self, skill: str, n: int, difficulty: float | None, rng: np.random.Generator, subskill: str | None = None
    ) -> list[Problem]:
        """As `ProceduralTask.write`; with `subskill` only problems of that one, which carry its name."""


@runtime_checkable
class AuthoredTask(Task, Protocol):
    """A task whose rows are more than a problem, a solution and an answer in words (code with its tests, calls of
    tools, questions on pictures), and that says how a language model writes one."""

    row_form: Mapping[str, Any]
    """JSON Schema of one written row, an object."""
    row_guide: str
    """What each field of the form must hold, in words, as told to the model."""

    def told(self, problem: Problem) -> dict[str, Any]:
        """A solved problem in the form, to show as an example; `read` makes the problem of it again."""

    def read(self, written: Mapping[str, Any]) -> Problem:
        """The problem, with its solution, that a written row states; its skill is the caller's to set.

        Raises InvalidData, whose message is a reason in few words that can be counted, where it states none (tests
        that its own solution fails, a call that its schema refuses).
        """


@runtime_checkable
class Organiser(Protocol):
    """Says what the subskills of a skill are. Neither needs the student; an organiser may be a language model."""

    name: str

    def propose(self, skill: str, known: Sequence[str], n: int, rng: np.random.Generator) -> list[str]:
        """Up to `n` names of new subskills, none of them in `known`; fewer when there are no more."""

    def request(self, skill: str, subskill: str, rows: int) -> Request:
        """What an engine is asked for `rows` rows of a proposed subskill; the request names skill and subskill."""


@runtime_checkable
class Discovery(Protocol):
    """A way to find out which skills a task's problems need. Fitted once, it is a fixed map of problems to skills."""

    name: str
    """Its id in `dataenv.skills.discoveries`, with its argument ("cluster:12")."""
    skills: tuple[str, ...]
    """Every skill found, in a fixed order; empty before fitting."""

    def fit(self, problems: Sequence[Problem]) -> None:
        """Find the skills of `problems`, all of the feedback split. Their order and repetitions do not matter."""

    def skills_of(self, problems: Sequence[Problem]) -> list[str]:
        """The skill of each problem, of whatever split: equal prompts, equal skills, whatever stands beside them.

        Every problem gets exactly one; where none of `skills` can be, it is "other".
        """

    def state(self) -> Any:
        """What `fit` found, as JSON-serialisable data, so that a run can freeze it."""

    def restore(self, state: Any) -> None:
        """Put back what `state` gave, in place of fitting."""


@runtime_checkable
class Student(Protocol):
    """A model that can be taught, examined, put back, saved and loaded. Weights load on first use, not before."""

    name: str
    shots: int
    """How many exemplars of its skill stand before a problem when the untaught student is examined few-shot; 0 for
    students that make no sense of them."""

    @property
    def version(self) -> str:
        """Content hash of the weights: changes when, and only when, they do."""

    def teach(self, examples: Sequence[Example], *, seed: int) -> TeachReport:
        """Train on `examples`, starting from the present weights. Empty input is a no-op.

        Raises TrainingFailed, with the weights as before the call, on a non-finite loss or when memory runs out.
        """

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
        """`samples` replies for each prompt, in the order of the prompts; greedy at temperature 0."""

    def reset(self) -> None:
        """Back to the untaught student."""

    def clone_state(self) -> Any:
        """The present weights as an opaque value in memory."""

    def restore_state(self, state: Any) -> None:
        """Put back what `clone_state` gave."""

    def save(self, folder: Path) -> None:
        """Write the present weights into `folder` (made if absent)."""

    def load(self, folder: Path) -> None:
        """Read weights that `save` wrote; raises InvalidData when they belong to another base."""

    def close(self) -> None:
        """Free what is held; safe to call twice."""


@runtime_checkable
class SaysImages(Protocol):
    """A task or a student that says whether prompts hold images, those that the task poses or that the student can make
    sense of. One that does not say is taken to mean None."""

    images: bool | None
    """True: every prompt; False: none; None: some do and some do not."""


@runtime_checkable
class Engine(Protocol):
    """Turns requests into training rows."""

    name: str

    def write(
        self, requests: Sequence[Request], rng: np.random.Generator, taught: AbstractSet[str] = frozenset()
    ) -> list[list[Example]]:
        """Fresh rows for each request, in the order of the requests: at most `request.rows` each, fewer when it has
        no more. `taught` holds the prompt keys of rows taught so far, which the gate will not let pass again.

        A request whose skill is "unmatched" asks for what its text says; an engine that does not read writes nothing.
        """


@runtime_checkable
class Conversing(Protocol):
    """A part (teacher, engine, discovery, organiser, filter) that asks a language model."""

    def converse(self, client: Any) -> None:
        """Take the `dataenv.chat.client.Client` that all its questions go through; called before the first use."""


@runtime_checkable
class Exercising(Protocol):
    """A teacher that has the student try problems of the pool, which no examination draws from."""

    def take_exercises(self, exercises: Any) -> None:
        """Take the `dataenv.exercises.Exercises` to set; called before the episode."""


@runtime_checkable
class Explaining(Protocol):
    """A teacher that can say how it came to its last action."""

    @property
    def dialogue(self) -> Sequence[Record]:
        """What it was told and what it answered, question by question, at the last `act`; runs keep it."""


@runtime_checkable
class TryingEngine(Engine, Protocol):
    """An engine whose tries can fail: it tries again itself, up to a cap of its own, and counts what failed.

    Where it brings fewer rows than were asked for, it is not asked for them again.
    """

    dropped: Mapping[str, int]
    """What the last `write` tried in vain, by reason."""


class Filter(Protocol):
    """A further check of rows that the gate lets pass, many at a time. A plain function will do."""

    def __call__(self, examples: Sequence[Example], rng: np.random.Generator) -> Sequence[str | None]:
        """For each row the reason to drop it, in few words that can be counted, or None. All draws are of `rng`."""


@runtime_checkable
class Comparing(Protocol):
    """A filter that compares rows with those taught before."""

    def compare(self, taught: Sequence[Example]) -> None:
        """Called at the beginning of each step with all rows taught so far; what passes in the step it has seen."""


@runtime_checkable
class AsksStudent(Protocol):
    """An engine or filter that asks the student of its environment, and does not change it."""

    def attach(self, student: Student) -> None:
        """Called once, by the environment that is being made; weights may not be loaded yet."""


@runtime_checkable
class Privileged(Protocol):
    """A teacher that may do what none can in earnest: fork the environment and look what a plan would bring.

    Its runs are marked, and are reference lines, not competitors.
    """

    def attach(self, env: Any) -> None:
        """Called before the episode with the bare environment; `act` leaves it as it found it."""


@runtime_checkable
class Teacher(Protocol):
    """An agent: it sees an observation and answers with an action, or with a Plan, which the loop makes an action."""

    name: str

    def reset(self, seed: int) -> None:
        """Forget the last episode; all later draws come from `seed`."""

    def act(self, observation: Any, info: Mapping[str, Any]) -> Plan | Any:
        """What to teach next; `info["feedback"]` is the state as a typed Feedback."""

    def observe(self, transition: Transition) -> None:
        """Learn from what the last action brought."""

    def state(self) -> Any:
        """Everything `act` depends on, as JSON-serialisable data, so that a killed run resumes exactly."""

    def restore(self, state: Any) -> None:
        """Put back what `state` gave."""
