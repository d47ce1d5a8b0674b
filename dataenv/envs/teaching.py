"""The loop every environment shares: one `step` is plan -> rows -> gate -> teach -> examine -> reward.

An environment adds what an action means (`plan`, and `action` the other way) and what the teacher sees (`observe`).
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import gymnasium as gym

from dataenv import checks
from dataenv.chat.introduce import introduce
from dataenv.checks import real, whole
from dataenv.engines import engines
from dataenv.engines import filters as gate_filters
from dataenv.engines.drops import Dropped
from dataenv.engines.filling import Filled, fill
from dataenv.engines.gate import Gate
from dataenv.envs import lease
from dataenv.envs.replay import Schedule, schedules
from dataenv.errors import EpisodeOver, InvalidAction, InvalidData, Note
from dataenv.examine import Change, Examination, examine, examine_untaught, paired, rounds
from dataenv.progress import Clock
from dataenv.protocols import AsksStudent, Comparing, Discovery, Engine, Filter, Student, Task
from dataenv.records import Budget, Example, Feedback, Past, Plan, Problem, Split, TeachReport, count_by_skill
from dataenv.registry import meant
from dataenv.seeding import child_seed, stream
from dataenv.skills.discovered import discovered
from dataenv.spaces import allocate
from dataenv.students import make_student
from dataenv.tasks import tasks

if TYPE_CHECKING:
    from dataenv.chat.client import Client

Regime = Literal["continue", "retrain"]
ObsType = TypeVar("ObsType")
ActType = TypeVar("ActType")


class Structure(Protocol):
    """What an environment keeps beside the rows (SkillTree's forest): a frozen `Record`."""

    @property
    def held_out(self) -> AbstractSet[str]:
        """Keys of prompts that no row may teach."""

    def model_dump_json(self) -> str: ...


@dataclass(frozen=True)
class Situation:
    """Everything an episode consists of. Equal situations have equal futures under equal actions."""

    seed: int
    """Of the episode: every draw of every part comes from it."""
    step: int
    taught: tuple[Example, ...]
    """All rows accepted so far, in order."""
    examination: Examination
    """Of the present student on the feedback problems."""
    baseline: Mapping[str, Any]
    """Plain and few-shot accuracy of the untaught student, and which of them gains count from."""
    history: tuple[Past, ...] = ()
    """The finished steps, oldest first."""
    structure: Any = None
    """The environment's own `Structure`, where it has one."""
    over: bool = False


class TeachingEnv(gym.Env[ObsType, ActType]):
    """Teach a student for one episode. Base of the three environments; not registered itself.

    Args:
        task, student, engine: an id ("drills", "smollm2-135m", ...), or an object that follows the protocol in
            `dataenv.protocols`. `engine` None is the task's own default.
        skills: None or "gold" for the task's own, or how to discover them: an id of `dataenv.skills.discoveries`
            ("cluster", "file:PATH") or a `Discovery`. It is fitted on feedback problems here, once, for all episodes.
        steps: plans in an episode; after them `truncated`.
        rows: most rows a plan may ask for.
        max_rows: most rows in an episode, None for steps x rows; when they are used up, `terminated`. A plan that
            asks for more than is left is cut down in proportion, and `info["rows"]["clipped"]` says so.
        feedback: problems per skill the student is examined on after each step; None for all (fixed data only).
        error: with it, `feedback` is the most: few problems are asked first, then twice as many, and so on, until the
            standard error is at most `error` (of the accuracy at `reset`, of the paired gain in `step`).
        redraw: other feedback problems in each step, which the student answers before and after it is taught: no
            teacher can fit the sample, at twice the answers. By default they stay the same within an episode: each
            step costs one examination, and the errors that a teacher sees are the ones its reward is counted on.
        regime: "continue" teaches the new rows, plus `replay` times as many of the earlier ones, to the student as it
            is; "retrain" teaches all rows so far to the untaught student (the paper's way; cost grows with the square
            of the steps).
        rehearsal: which earlier rows are taught again: an id of `envs.replay.schedules`, or a `Schedule`.
        target: accuracy on the feedback problems that ends the episode (`terminated`), or None.
        filters: further checks of rows that pass the gate: ids of `dataenv.engines.filters` ("known:0.75"), functions
            or objects that follow `protocols.Filter`.
        client: the language model, for parts that ask one (`protocols.Conversing`): an id of `dataenv.chat.models`
            ("openai:gpt-5-mini"), or a `chat.client.Client`.

    The reward is the gain in feedback accuracy. The first one counts from the better of the plain and the few-shot
    examination of the untaught student. `info` holds, after `reset`: "feedback" (`records.Feedback`), "baseline",
    "student" (version); after `step` also "plan", "reward_error" (paired standard error), "reward_n", "skill_gain",
    "skill_error" (of each gain), "rows" (asked, accepted, clipped, dropped by reason, shortfall by skill, taught by
    skill) and "teach". `seconds` (not in info, which is reproducible) is the last call's time by phase;
    `rejected` (not in info, where a teacher sees it) holds a few of the rows the last step dropped, of each reason.

    The constructor opens nothing; weights and data load at the first `reset`.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012  (Gymnasium's own convention)

    def __init__(
        self,
        task: str | Task = "drills",
        student: str | Student = "micro",
        engine: str | Engine | None = None,
        *,
        skills: str | Discovery | None = None,
        steps: int = 10,
        rows: int = 512,
        max_rows: int | None = None,
        feedback: int | None = 16,
        error: float | None = None,
        redraw: bool = False,
        regime: Regime = "continue",
        replay: float = 0.25,
        rehearsal: str | Schedule = "uniform",
        target: float | None = None,
        filters: Sequence[str | Filter] = (),
        client: str | Client | None = None,
        render_mode: None = None,
    ) -> None:
        self.steps, self.rows = whole("steps", steps), whole("rows", rows)
        self.max_rows = self.steps * self.rows if max_rows is None else whole("max_rows", max_rows)
        self.feedback = None if feedback is None else whole("feedback", feedback)
        if regime not in ("continue", "retrain"):
            raise InvalidData(f"regime must be 'continue' or 'retrain'; it is '{regime}'.")
        if error is not None and not (isinstance(error, Real) and 0 < error < 1):
            raise InvalidData(f"error must be a standard error in (0, 1) or None; it is {error}.")
        if target is not None:
            target = real("target", target, 0, 1)
        task = tasks.make(task) if isinstance(task, str) else task
        checks.part("task", task, Task)
        checks.skills(task)
        self.client = _client(client)
        self.student: Student = make_student(student) if isinstance(student, str) else student
        checks.part("student", self.student, Student)
        checks.whole(f"shots of student '{self.student.name}'", self.student.shots, least=0)
        checks.images(task, self.student)
        self.task: Task = discovered(task, skills, self.client)
        engine = self.task.default_engine if engine is None else engine
        self.engine: Engine = engines.make(engine, task=self.task) if isinstance(engine, str) else engine
        checks.part("engine", self.engine, Engine)
        self.rehearsal: Schedule = schedules.make(rehearsal) if isinstance(rehearsal, str) else rehearsal
        self.error, self.redraw = error, bool(redraw)
        self.regime, self.replay, self.target = regime, real("replay", replay, 0, 100), target
        filters = (filters,) if isinstance(filters, str) else filters
        self.filters: tuple[Filter, ...] = tuple(self._filter(given) for given in filters)
        for part in (self.engine, *self.filters):
            if isinstance(part, AsksStudent):
                part.attach(self.student)
        introduce(self.client, self.engine, *self.filters)
        self.render_mode = render_mode
        self.seconds = Clock()
        self.teacher: str | None = None
        """Whose plans it carries out, where somebody says so: the rows' provenance names it."""
        self.change: Change | None = None
        """What the last step changed, problem by problem."""
        self.rejected: tuple[Dropped, ...] = ()
        self.problems: list[Problem] = []
        """The feedback problems that may be asked in this step."""
        self.exemplars: dict[str, list[Example]] = {}
        self._situation: Situation | None = None
        self._drawn: list[list[Problem]] = []
        self._shown: list[Problem] = []
        self._prepared = (-1, 0)
        self._noted: set[str] = set()
        self._lease = 0
        # Both follow from the situation's rows; going through thousands of rows at each step would be dear.
        self._keys: set[str] = set()
        self._counts: Counter[str] = Counter()

    def _filter(self, given: str | Filter) -> Filter:
        made: Filter = gate_filters.make(given, task=self.task) if isinstance(given, str) else given
        if not callable(made):
            raise InvalidData(f"filters must be ids or functions of rows and a generator; one is {made!r}.")
        return made

    # -- what an environment adds --------------------------------------------------------------------------

    def plan(self, action: ActType) -> Plan:
        """What `action` asks for. Raises InvalidAction, naming the part, when it is outside the action space."""
        raise NotImplementedError

    def observe(self, feedback: Feedback) -> ObsType:
        """What the teacher sees."""
        raise NotImplementedError

    def action(self, plan: Plan) -> ActType:
        """The action that asks for `plan`. Raises InvalidAction where this environment's actions cannot say it."""
        raise NotImplementedError

    def must_have(self, skill: str, where: str) -> None:
        """Raises InvalidAction where the task has no such skill, which stands at `where` in a plan."""
        if skill not in self.task.skills:
            near, known = meant(skill, self.task.skills), ", ".join(self.task.skills)
            raise InvalidAction(f"{where}: '{skill}' is no skill of '{self.task.name}'{near or '.'} It has: {known}.")

    def first_structure(self) -> Structure | None:
        """What the environment keeps beside the rows at the start of an episode; None where it keeps nothing."""
        return None

    def read_structure(self, content: bytes) -> Structure:
        """The structure that was written as JSON; needed only where there is one."""
        raise NotImplementedError

    def grow(self, action: ActType) -> Structure | None:
        """The present structure changed by `action`, before rows are made."""
        return None

    def probe(self, structure: Any, taught: Sequence[Example]) -> Any:
        """`structure` with what it says of the present student; no rows were `taught` if the student is as it was."""
        return structure

    # -- the loop -----------------------------------------------------------------------------------------------------

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[ObsType, dict[str, Any]]:
        """Restore the untaught student, empty the rows, and examine it, plainly and few-shot."""
        super().reset(seed=seed)
        self.seconds = Clock()
        self._situation = None
        episode = int(self.np_random.integers(2**63 - 1))
        self._prepare(episode, 0)
        self._lease = lease.take(self.student)
        self.student.reset()
        with self.seconds("examine"):
            examination, baseline = examine_untaught(self.task, self.student, self.problems, self.exemplars, self.error)
        self._note_overlong(examination)
        return self.resume(Situation(episode, 0, (), examination, baseline, structure=self.first_structure()))

    def step(self, action: ActType) -> tuple[ObsType, float, bool, bool, dict[str, Any]]:
        """Carry out one plan. On any error, an interrupt included, the situation is as before the call."""
        before = self.situation
        if before.over:
            raise EpisodeOver("The episode is over; call reset() before step().")
        self._check_lease()
        plan = self.plan(action)
        self.seconds = Clock()
        plan, clipped = self._within_budget(plan, before)
        student, counts = None, self._counts
        try:
            if self.redraw:
                self._prepare(before.seed, before.step + 1)
            structure = self.grow(action)
            new = self._filled(plan, before, structure)
            student = self.student.clone_state() if new.examples else None
            report, change, examination = self._teach_and_examine(before, new.examples, student)
            self.change = change
            self._situation = now = replace(
                before,
                step=before.step + 1,
                taught=before.taught + tuple(new.examples),
                examination=examination,
                history=(*before.history, _past(plan, new, change)),
                structure=self.probe(structure, taught=new.examples),
            )
            self._counts = counts + Counter(count_by_skill(new.examples))
            terminated, truncated = self._ending()
            self._situation = replace(now, over=terminated or truncated)
            observation, info = self._seen()
            info |= _account(plan, clipped, new, report, change)
            self._keys.update(example.prompt.key for example in new.examples)
            return observation, float(change.gain), terminated, truncated, info
        except BaseException:
            self._situation, self._counts = before, counts
            if student is not None:
                self.student.restore_state(student)
            if self.redraw:
                self._prepare(before.seed, before.step)
            raise

    def redo(self, rows: Sequence[Example]) -> TeachReport:
        """Teach and examine as a step does whose rows are `rows`, without plan, engine, gate and structure: for whoever
        has the rows of a run and wants to see whether its student comes of them."""
        before = self.situation
        self._check_lease()
        if self.redraw:
            self._prepare(before.seed, before.step + 1)
        report, _, examination = self._teach_and_examine(before, list(rows), self.student.clone_state())
        self.resume(replace(before, step=before.step + 1, taught=before.taught + tuple(rows), examination=examination))
        return report

    def close(self) -> None:
        """Free the student's memory, unless another environment teaches it by now. Safe to call twice."""
        self._situation = None
        if lease.holds(self.student, self._lease):
            self._lease = lease.take(self.student)
            self.student.close()

    # -- the situation, for runs that resume and teachers that look ahead ---------------------------------------------

    @property
    def situation(self) -> Situation:
        """The present situation, without the student's weights. Raises EpisodeOver before the first reset."""
        if self._situation is None:
            raise EpisodeOver("There is no episode yet; call reset() first.")
        return self._situation

    def clone_state(self) -> tuple[Situation, Any, Any]:
        """The complete situation, student and random streams included, as a value for `restore_state`."""
        situation = self.situation
        self._check_lease()
        return situation, self.student.clone_state(), self.np_random.bit_generator.state

    def restore_state(self, state: tuple[Situation, Any, Any]) -> None:
        """Put back what `clone_state` gave."""
        situation, student, random = state
        self.student.restore_state(student)
        self.np_random.bit_generator.state = random
        self.resume(situation)

    def resume(self, situation: Situation) -> tuple[ObsType, dict[str, Any]]:
        """Go on from `situation` with the student as it is now; returns what `reset` would."""
        self._lease = lease.take(self.student)
        self._prepare(situation.seed, situation.step)
        self._situation = situation
        self._keys = {example.prompt.key for example in situation.taught}
        self._counts = Counter(count_by_skill(situation.taught))
        return self._seen()

    # -- parts of a step ----------------------------------------------------------------------------------------------

    def _prepare(self, episode: int, step: int) -> None:
        """Draw the feedback problems of `step` and the exemplars, and build the gate; does nothing where it is done.

        The gate protects the problems of this step and of all earlier ones, which a teacher has seen.
        """
        draws = [("feedback", i) for i in range(step + 1)] if self.redraw else [("feedback",)]
        if self._prepared == (episode, len(draws)):
            return
        with self.seconds("prepare"):
            if self._prepared[0] != episode:
                self._drawn.clear()
                self._shown = self._problems("exemplar", max(self.student.shots, 4), child_seed(episode, "exemplars"))
                self.exemplars = _first(self.student.shots, self._shown)
            for names in draws[len(self._drawn) :]:
                self._drawn.append(self._problems("feedback", self.feedback, child_seed(episode, *names)))
            self.problems = self._drawn[len(draws) - 1]
            if not self.problems:
                raise InvalidData(f"Task '{self.task.name}' has no feedback problems; give it more data.")
            self._note_oddities()
            protected = (problem.prompt for problems in self._drawn[: len(draws)] for problem in problems)
            self._gate = Gate(self.task, protected, (problem.prompt for problem in self._shown))
            self._prepared = episode, len(draws)

    def _problems(self, split: Split, per_skill: int | None, seed: int) -> list[Problem]:
        problems = self.task.problems(split, per_skill, seed)
        checks.problems(self.task, problems)
        return problems

    def _note_oddities(self) -> None:
        """Say what a teacher can do little about."""
        examined = {problem.skill for problem in self.problems}
        if unexamined := [skill for skill in self.task.skills if skill not in examined]:
            self._note(
                "unexamined",
                f"{len(unexamined)} of {len(self.task.skills)} skills of '{self.task.name}' have no feedback problems, "
                f"such as '{unexamined[0]}'; nothing will be known of them, and no gain in them counts.",
            )
        if len(self.task.skills) == 1:
            self._note(
                "one skill",
                f"Task '{self.task.name}' has one skill, so a teacher has none to choose between; skills=\"cluster\" "
                "(--skills cluster) looks for more.",
            )

    def _note_overlong(self, examination: Examination) -> None:
        """Say that most problems are too long for the student: it would look like a weak one."""
        if 2 * examination.overlong > examination.n:
            self._note(
                "overlong",
                f"{examination.overlong} of {examination.n} feedback prompts of '{self.task.name}' do not fit the "
                f"context of student '{self.student.name}': they cannot be asked and count as wrong; shorten them, or "
                "choose a student with a longer context.",
            )

    def _note(self, what: str, text: str) -> None:
        """Give a `Note`, once in the life of the environment."""
        if what not in self._noted:
            self._noted.add(what)
            warnings.warn(text, Note, stacklevel=3)

    def _check_lease(self) -> None:
        """Raise InvalidData when another environment has changed the student."""
        if not lease.holds(self.student, self._lease):
            raise InvalidData(
                f"Another environment has reset or closed student '{self.student.name}' in the middle of this one's "
                "episode; give each environment a student of its own, or reset() this one again."
            )

    def _filled(self, plan: Plan, before: Situation, structure: Structure | None) -> Filled:
        """The rows that `plan` brings through the gate."""
        closed = self._keys if structure is None else self._keys | structure.held_out
        for judge in self.filters:
            if isinstance(judge, Comparing):
                judge.compare(before.taught)
        with self.seconds("gate"):
            filled = fill(
                plan,
                self.engine,
                self._gate,
                closed,
                self.seconds,
                step=before.step + 1,
                seed=before.seed,
                teacher=self.teacher,
                filters=self.filters,
            )
        self.seconds["gate"] -= self.seconds.get("write", 0.0)
        self.rejected = tuple(filled.dropped.samples)
        return filled

    def _within_budget(self, plan: Plan, before: Situation) -> tuple[Plan, bool]:
        """The plan, cut down in proportion to the rows left in the episode, and whether it was."""
        if plan.rows > self.rows:
            raise InvalidAction(f"The plan asks for {plan.rows} rows; a step has at most {self.rows}.")
        left = self.max_rows - len(before.taught)
        if plan.rows <= left:
            return plan, False
        verbatim, *counts = allocate([len(plan.examples), *(request.rows for request in plan.requests)], left)
        requests = [r.model_copy(update={"rows": int(n)}) for r, n in zip(plan.requests, counts, strict=True)]
        return Plan(requests=tuple(requests), examples=plan.examples[:verbatim]), True

    def _teach_and_examine(
        self, before: Situation, new: list[Example], student: Any
    ) -> tuple[TeachReport, Change, Examination]:
        """Train on what the regime says and examine; no new rows, no training, and the old answers stand.

        `student` is its state before, for the problems that are still to be asked of it.
        """
        earlier = before.examination
        if not new:
            return TeachReport(rows=0, tokens=0, loss=None), paired(earlier, earlier), earlier
        shots = self.exemplars if earlier.shots else None
        if self.redraw:
            with self.seconds("examine"):
                earlier = examine(self.task, self.student, rounds(self.problems, self.error)[0], shots)
        with self.seconds("teach"):
            if self.regime == "retrain":
                self.student.reset()
                lesson = [*before.taught, *new]
            else:
                lesson = [*new, *self._replayed(before, len(new))]
            report = self.student.teach(lesson, seed=child_seed(before.seed, "teach", before.step + 1))
            checks.report(self.student, report)
        with self.seconds("examine"):
            now = examine(self.task, self.student, [attempt.problem for attempt in earlier.attempts])
            for more in rounds(self.problems, self.error):
                if self.error is None or paired(earlier, now).error <= self.error:
                    break
                if more[0].id in earlier.asked:
                    continue
                now += examine(self.task, self.student, more)
                taught = self.student.clone_state()
                self.student.restore_state(student)
                earlier += examine(self.task, self.student, more, shots)
                self.student.restore_state(taught)
            return report, paired(earlier, now), now

    def _replayed(self, before: Situation, new: int) -> list[Example]:
        """Earlier rows taught again beside the new ones, drawn without repetition."""
        n = min(round(self.replay * new), len(before.taught))
        if not n:
            return []
        now, steps = before.step + 1, [i for i, past in enumerate(before.history, 1) for _ in range(past.rows)]
        chosen = self.rehearsal(before.taught, steps, now, n, stream(before.seed, "replay", now))
        return [before.taught[i] for i in chosen]

    def _ending(self) -> tuple[bool, bool]:
        """(terminated, truncated): target reached or rows used up; steps used up."""
        now = self.situation
        reached = self.target is not None and now.examination.accuracy >= self.target
        return reached or len(now.taught) >= self.max_rows, now.step >= self.steps

    def _feedback(self) -> Feedback:
        now = self.situation
        return Feedback.model_construct(
            step=now.step,
            skills=now.examination.by_skill(self.task.skills),
            failures=tuple(attempt for attempt in now.examination.attempts if not attempt.correct),
            taught=dict.fromkeys(self.task.skills, 0) | self._counts,
            budget=Budget(
                rows_left=self.max_rows - len(now.taught), rows_per_step=self.rows, steps_left=self.steps - now.step
            ),
            history=now.history,
        )

    def _seen(self) -> tuple[ObsType, dict[str, Any]]:
        """Observation and info of the present situation."""
        feedback = self._feedback()
        baseline = dict(self.situation.baseline)
        return self.observe(feedback), {"feedback": feedback, "baseline": baseline, "student": self.student.version}


def _client(client: str | Client | None) -> Client | None:
    if isinstance(client, str):
        from dataenv.chat import make_client

        return make_client(client)
    return client


def _first(n: int, problems: Sequence[Problem]) -> dict[str, list[Example]]:
    """The first `n` problems of each skill as exemplars; skills without any are left out."""
    exemplars: dict[str, list[Example]] = {}
    for problem in problems:
        chosen = exemplars.setdefault(problem.skill, [])
        if len(chosen) < n:
            chosen.append(Example.from_problem(problem))
    return {skill: chosen for skill, chosen in exemplars.items() if chosen}


def _past(plan: Plan, filled: Filled, change: Change) -> Past:
    return Past(
        asked=plan.rows,
        rows=len(filled.examples),
        dropped=dict(filled.dropped),
        reward=float(change.gain),
        error=change.error,
    )


def _account(plan: Plan, clipped: bool, filled: Filled, report: TeachReport, change: Change) -> dict[str, Any]:
    """What `info` says of a step besides the state."""
    return {
        "plan": plan,
        "reward_error": change.error,
        "reward_n": change.n,
        "skill_gain": dict(change.by_skill),
        "skill_error": dict(change.error_by_skill),
        "rows": {
            "asked": plan.rows,
            "accepted": len(filled.examples),
            "clipped": clipped,
            "dropped": dict(filled.dropped),
            "shortfall": dict(filled.shortfall),
            "taught": count_by_skill(filled.examples),
        },
        "teach": report._asdict(),
    }
