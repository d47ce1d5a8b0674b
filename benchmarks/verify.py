"""Checking a comparison that was handed in: is all of it there, does it hang together, does it come out again?

Every run: its files and its chain of events, its code, its rows against its exam, its student on its exam. A random
sample of runs: taught again from their rows, step by step, and examined on problems that nobody could have known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import orjson

from dataenv.benchmarks.bench import FAILED, RUNS, SUITE, stored
from dataenv.benchmarks.bundle import altered, digest, unpacked
from dataenv.benchmarks.suite import Job, Suite, load, suites
from dataenv.envs.teaching import TeachingEnv
from dataenv.errors import DataEnvError, InvalidData
from dataenv.examine import Examination, examine
from dataenv.records import Example, Problem, normalise
from dataenv.runs.episode import versions_here
from dataenv.runs.exam import exam_problems, marks
from dataenv.runs.folder import sound_events
from dataenv.runs.sources import digests
from dataenv.seeding import child_seed, stream

FAR = 3.0
"""Standard errors that two accuracies may be apart where they need not be equal."""
LONG = 32
"""Characters from which an exam prompt within another text is no coincidence."""


class Fault(NamedTuple):
    """Something that is not as it should be: where (a run's place, a file, the suite), and what."""

    where: str
    what: str


def verify(
    path: Path, *, sample: int = 3, seed: int | None = None, tell: Callable[[str], None] = lambda line: None
) -> list[Fault]:
    """Everything wrong with the bundle at `path`; nothing, if it is sound. `sample` runs are taught again.

    `seed` draws the sample and the fresh exam; None draws it from the bundle's own content, so that nobody can choose
    both. Raises InvalidData where `path` is no bundle.
    """
    with TemporaryDirectory() as place:
        folder = unpacked(path, Path(place))
        faults = [Fault("bundle", what) for what in altered(folder)]
        try:
            suite, failed = stored(folder)
        except DataEnvError:
            return [*faults, Fault("bundle", f"its {SUITE} is missing or cannot be read")]
        faults += [Fault("suite", what) for what in _missing(suite, failed, folder)]
        there = [job for job in suite.jobs() if str(job.place) not in failed]
        jobs = [job for job in there if (folder / RUNS / job.place / "events.jsonl").is_file()]
        chance = stream(int(digest(path.read_bytes()), 16) % 2**63 if seed is None else seed, "verify")
        chosen = {int(i) for i in chance.choice(len(jobs), min(sample, len(jobs)), replace=False)} if jobs else set()
        fresh = int(chance.integers(2**63))
        for number, job in enumerate(jobs):
            tell(f"{number + 1}/{len(jobs)} {job.place}{' (taught again)' if number in chosen else ''}")
            try:
                found = list(_faults(job, folder / RUNS / job.place, number in chosen, fresh))
            except DataEnvError as error:
                found = [str(error)]
            faults += [Fault(str(job.place), what) for what in found]
        return faults


def _missing(suite: Suite, failed: Mapping[str, str], folder: Path) -> Iterator[str]:
    """What the bundle should hold and does not."""
    if suite.name in suites():
        true = load(suite.name)
        cells = {cell.name: cell for cell in suite.cells}
        if dropped := sorted(set(true.seeds) - set(suite.seeds)):
            yield f"seeds {', '.join(map(str, dropped))} of suite '{suite.name}' are left out"
        for cell in true.cells:
            if cell.name not in cells:
                yield f"cell '{cell.name}' of suite '{suite.name}' is left out"
            elif cells[cell.name].run != cell.run:
                yield f"cell '{cell.name}' has other settings than suite '{suite.name}' says"
            elif gone := {e.label for e in cell.entrants} - {e.label for e in cells[cell.name].entrants}:
                yield f"cell '{cell.name}' lacks {', '.join(sorted(gone))}"
    for job in suite.jobs():
        if not (folder / RUNS / job.place / "events.jsonl").is_file() and str(job.place) not in failed:
            yield f"the run {job.place} is neither there nor among the failed ones ({FAILED})"


def _faults(job: Job, folder: Path, again: bool, fresh: int) -> Iterator[str]:
    """What is wrong with one run."""
    content = (folder / "events.jsonl").read_bytes()
    events, _ = sound_events(content)
    if len(events) != content.count(b"\n"):
        yield f"events.jsonl, line {len(events) + 1}: altered; it does not follow from the lines before"
        return
    by_kind: dict[str, list[dict[str, Any]]] = {}
    for event in events:
        by_kind.setdefault(event["event"], []).append(event)
    if not all(by_kind.get(kind) for kind in ("start", "reset", "exam", "end")):
        yield "events.jsonl: the run did not end"
        return
    start, reset, exam = by_kind["start"][-1], by_kind["reset"][-1], by_kind["exam"][-1]
    steps = by_kind.get("step", [])
    if start["config"] != orjson.loads(job.config.model_dump_json()):
        yield "the run began with other settings than the suite's"
        return
    for part, known in digests().items():
        if start["versions"].get(part) != known:
            yield f"the {part} was another: its code differs from the one here"
    rows = []
    for step in steps:
        file, hash = folder / "steps" / f"{step['step']:03d}" / "rows.jsonl", step["kept"].get("rows.jsonl")
        held = file.read_bytes() if file.is_file() else b""
        if hash is not None and digest(held) != hash:
            yield f"steps/{step['step']:03d}/rows.jsonl: not the rows that the run wrote down"
            return
        rows.append([Example.model_validate_json(line) for line in held.splitlines()])
    yield from _inconsistent(exam)
    config = job.config.model_copy(update={"teacher": "uniform", "no_state": False, "options": _parts(job)})
    env = config.build_env()
    try:
        yield from _examined_again(job, folder, env, reset, exam, rows)
        if again:
            yield from _taught_again(job, env, start, steps, exam, rows, fresh)
    finally:
        env.close()


def _parts(job: Job) -> dict[Any, Any]:
    return {part: options for part, options in job.config.options.items() if part != "teacher"}


def _inconsistent(exam: Mapping[str, Any]) -> Iterator[str]:
    """Exam figures that its own marks do not bear out."""
    n = max(len(exam["problems"]), 1)
    before, after = (exam["solved"][when].count("1") / n for when in ("before", "after"))
    for name, value, true in (
        ("before", exam["before"]["accuracy"], before),
        ("after", exam["after"]["accuracy"], after),
        ("gain", exam["gain"], after - before),
    ):
        if not math.isclose(value, true, abs_tol=1e-9):
            yield f"exam: {name} is given as {value:.4f}, and its marks make {true:.4f}"


def _examined_again(
    job: Job,
    folder: Path,
    env: TeachingEnv[Any, Any],
    reset: Mapping[str, Any],
    exam: Mapping[str, Any],
    rows: Sequence[Sequence[Example]],
) -> Iterator[str]:
    """The base student, the exam's problems, and the student that sat it."""
    env.student.reset()
    if env.student.version != reset["student_version"]:
        yield f"the base weights of '{job.config.student}' were others than the ones here"
    problems = exam_problems(job.config, env.task)
    yield from leaked(problems, rows)
    taught = {row.prompt.key for step in rows for row in step}
    asked = [problem for problem in problems if problem.prompt.key not in taught]
    if [problem.id[:16] for problem in asked] != exam["problems"]:
        yield "the exam asked other problems than its seed draws"
        return
    if exam["selected_step"]:
        place = folder / "steps" / f"{exam['selected_step']:03d}" / "student"
        try:
            env.student.load(place)
        except (DataEnvError, OSError) as error:
            yield f"{place.relative_to(folder)}: {error}"
            return
    if env.student.version != exam["student_version"]:
        yield "the student in the bundle is not the one that sat the exam"
    elif exam["selected_step"] and (now := marks(examine(env.task, env.student, asked))) != exam["solved"]["after"]:
        differ = sum(a != b for a, b in zip(now, exam["solved"]["after"], strict=True))
        yield f"exam: the student's answers to {differ} of {len(asked)} problems are judged otherwise here"


def leaked(problems: Sequence[Problem], rows: Sequence[Sequence[Example]]) -> Iterator[str]:
    """Exam problems among the rows: equal prompts, or a long prompt within a row's text."""
    keys = {problem.prompt.key for problem in problems}
    long = [
        text
        for problem in problems
        if len(text := normalise(problem.prompt.text)) >= LONG and not problem.prompt.images
    ]
    for number, step in enumerate(rows, 1):
        known = sum(row.prompt.key in keys for row in step)
        within = sum(any(text in normalise(f"{row.prompt.text}\n{row.completion}") for text in long) for row in step)
        if found := max(known, within):
            yield f"step {number}: {found} of its rows hold problems of the exam"


def _taught_again(
    job: Job,
    env: TeachingEnv[Any, Any],
    start: Mapping[str, Any],
    steps: Sequence[Mapping[str, Any]],
    exam: Mapping[str, Any],
    rows: Sequence[Sequence[Example]],
    fresh: int,
) -> Iterator[str]:
    """The run's lessons, and a new exam."""
    env.reset(seed=job.config.seed)
    here = start["versions"] == versions_here()  # then it must come out to the bit
    for step, held in zip(steps, rows, strict=True):
        env.redo(held)
        now = env.situation.examination
        far = abs(now.accuracy - step["accuracy"]) > FAR * math.hypot(now.error, step["error"])
        if env.student.version != step["student_version"] and (here or far):
            yield (
                f"step {step['step']}: its rows make another student here (accuracy {now.accuracy:.3f}, given as "
                f"{step['accuracy']:.3f})"
            )
            return
    if exam["selected_step"] != len(steps):
        return  # an earlier student sat the exam, which was seen to be the one of the bundle
    problems = env.task.problems("exam", job.config.exam, child_seed(fresh, "exam"))
    unseen: Examination = examine(env.task, env.student, problems)
    if abs(unseen.accuracy - exam["after"]["accuracy"]) > FAR * math.hypot(unseen.error, exam["after"]["error"]):
        yield f"a fresh exam gives {unseen.accuracy:.3f}, the run says {exam['after']['accuracy']:.3f}"


def must_be_sound(path: Path, **options: Any) -> None:
    """Raise InvalidData with all faults of a bundle."""
    if faults := verify(path, **options):
        lines = "\n".join(f"  * {fault.where}: {fault.what}" for fault in faults)
        raise InvalidData(f"{path}: {len(faults)} fault{'s' if len(faults) > 1 else ''}\n{lines}")
