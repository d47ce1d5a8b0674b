"""Carrying out a run: teach for an episode, write every step down, then open the sealed exam.

A run that was stopped goes on from its last finished step and ends as it would have ended: the student's weights,
the teacher's state and all rows are read back, and every draw comes from the seed and the step's number.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, chdir, contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import orjson
from gymnasium.utils import seeding
from pydantic import ValidationError

from dataenv.chat.introduce import introduce
from dataenv.chat.ledger import USED, Ledger
from dataenv.envs.teaching import Situation, TeachingEnv
from dataenv.errors import DataEnvError, InvalidAction, InvalidData, RunError
from dataenv.examine import Examination
from dataenv.exercises import Exercises
from dataenv.protocols import Discovery, Exercising, Explaining, Privileged, ProceduralTask, Task, Teacher
from dataenv.records import Attempt, Example, Past, Plan, SkillScore, Transition, content_hash
from dataenv.runs.config import RunConfig
from dataenv.runs.exam import sit_exam
from dataenv.runs.folder import RunFolder, holds_run
from dataenv.runs.sources import digests
from dataenv.seeding import child_seed
from dataenv.skills.discovered import Discovered
from dataenv.skills.discovery import freeze, thaw
from dataenv.tasks.splits import SHARES

if TYPE_CHECKING:
    from dataenv.chat.client import Client


class Watcher(Protocol):
    """Someone who is told of every event, with the run's configuration."""

    def event(self, event: Mapping[str, Any]) -> None: ...


def start(config: RunConfig, folder: Path, watcher: Watcher | None = None) -> dict[str, Any]:
    """Carry out `config` in `folder` (goes on with it where it stands there already); returns the result.

    Raises RunError when the folder holds something else. A run that stopped before its first examination was written
    down has nothing to lose, and gives way; one that cannot even begin, for want of weights or data, leaves no folder.
    """
    fresh = not holds_run(folder)
    absent = [place for place in (folder, *folder.parents) if not os.access(place, os.F_OK)]
    with ExitStack() as open_:
        client = None
        if fresh:  # a misspelt id or option, or a model that does not answer, must not leave a folder behind
            _must_be_free(folder)
            client = open_.enter_context(_reached(config, folder))
            _built(config, client)
        files = open_.enter_context(RunFolder(folder))
        _must_have_its_log(files)
        known = files.config
        wanted = orjson.loads(config.model_dump_json())
        if files.begun and known and (different := [key for key in wanted if known.get(key) != wanted[key]]):
            raise RunError(
                f"{folder} holds a run that differs in {', '.join(different)}; choose another --out, or "
                f"'dataenv resume {folder}' to go on with that one."
            )
        if not files.begun and known != wanted:
            files.keep(0)
            files.write(folder / "config.json", orjson.dumps(wanted, option=orjson.OPT_INDENT_2), sync=True)
        try:
            return _carry_out(config, files, watcher, client)
        except RunError:
            raise
        except (Exception, SystemExit):
            if fresh and len(files.events) < 2:
                _withdraw(folder, absent)
            raise


def resume(folder: Path, watcher: Watcher | None = None) -> dict[str, Any]:
    """Go on with the run in `folder`; a finished run just gives its result."""
    if not holds_run(folder):
        raise RunError(f"There is no run in {folder}; 'dataenv run --out {folder}' starts one.")
    with RunFolder(folder) as files:
        _must_have_its_log(files)
        try:
            config = RunConfig.model_validate(files.config)
        except ValidationError as error:
            fault = error.errors()[0]
            raise RunError(f"{folder}/config.json: {'.'.join(map(str, fault['loc']))}: {fault['msg']}.") from error
        return _carry_out(config, files, watcher)


def result_of(events: list[dict[str, Any]], folder: Path) -> dict[str, Any]:
    """The numbers of a finished run, as `--json` prints them."""
    exam = next(event for event in events if event["event"] == "exam")
    steps = [event for event in events if event["event"] == "step"]
    return {
        "exam_before": exam["before"]["accuracy"],
        "exam_after": exam["after"]["accuracy"],
        "gain": exam["gain"],
        "gain_se": exam["gain_error"],
        "selected_step": exam["selected_step"],
        "steps": len(steps),
        "rows": sum(_rows_taught(step) for step in steps),
        "seconds": _seconds(events),
        "run": str(folder),
        "hash": events[-1]["hash"],
    }


def _carry_out(
    config: RunConfig, files: RunFolder, watcher: Watcher | None, client: Client | None = None
) -> dict[str, Any]:
    tell = watcher.event if watcher is not None else lambda event: None
    now = orjson.loads(config.model_dump_json())
    if files.events and any(now.get(key) != value for key, value in files.events[0]["config"].items()):
        raise RunError(
            f"{files.path}/config.json is not what the run began with; put it back, or start a new run with --out."
        )
    if files.events and files.events[-1]["event"] == "end":
        tell(next(event for event in files.events if event["event"] == "exam"))
        return result_of(files.events, files.path)
    given = files.path
    with _where_it_began(files), ExitStack() as open_:
        client = client or open_.enter_context(_reached(config, files.path))
        _teach_and_examine(config, files, tell, client)
    return result_of(files.events, given)


@contextmanager
def _reached(config: RunConfig, folder: Path) -> Iterator[Client | None]:
    """The client of the run's language model, which answers; None where the run has none. Its answers are kept in the
    run's folder, so that a stopped run has the same ones when it goes on."""
    client = config.build_client(folder / "chat")
    if client is None:
        yield None
        return
    with client:
        client.check()
        yield client


def _built(
    config: RunConfig, client: Client | None, discovery: Discovery | None = None
) -> tuple[TeachingEnv[Any, Any], Teacher]:
    """Environment and teacher, with the client for whichever of their parts asks a language model."""
    env, teacher = config.build_env(discovery, client), config.build_teacher()
    of_env = (getattr(env.task, "discovery", None), env.engine, *env.filters, getattr(env, "organiser", None))
    if not introduce(client, teacher, *of_env) and client is not None:
        raise InvalidData(
            f"No part of this run asks a language model; leave out --model {config.model}, or choose a part that does."
        )
    return env, teacher


class _Meter:
    """What the run's language model was asked and took, and the exercises a student tried, since the last reading; the
    first reading has what earlier processes used besides what `events` say, in a step that they did not finish."""

    def __init__(self, client: Client | None, exercises: Exercises, events: Sequence[Mapping[str, Any]]) -> None:
        said = [event.get("chat", {}) for event in events]
        self._client, self._exercises = client, exercises
        self._before = Ledger(**{name: sum(chat.get(name, 0) for chat in said) for name in USED}).as_dict()

    def read(self) -> dict[str, Any]:
        tried = self._exercises.read()
        used: dict[str, Any] = {"exercises": tried} if tried["answers"] else {}
        if self._client is not None:
            used["chat"] = self._client.ledger.since(self._before)
            self._before = self._client.ledger.as_dict()
        return used


def _teach_and_examine(config: RunConfig, files: RunFolder, tell: Any, client: Client | None) -> None:
    """Everything that is left of the run."""
    env, teacher = _built(config, client, _frozen_skills(files))
    env.teacher = teacher.name
    if isinstance(teacher, Privileged):
        teacher.attach(env)
    exercises = Exercises(env.task, env.student)
    if isinstance(teacher, Exercising):
        teacher.take_exercises(exercises)
    try:
        _must_have_its_data(files, env.task)
        state = _restored(config, files, env, teacher)
        meter = _Meter(client, exercises, files.events)  # of the events that stay: what the others used is said again
        for event in files.events:
            tell(event)
        if state is None:
            state = _begin(config, files, env, teacher, meter, tell)
        while not env.situation.over:
            state = _step(files, env, teacher, meter, *state, tell)
        if files.events[-1]["event"] != "exam":
            tell({"event": "exam-begins"})
            files.append({"event": "exam", **sit_exam(config, files.path / "steps", env)})
            tell(files.events[-1])
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
            1024 * 1024 if sys.platform == "darwin" else 1024
        )
        files.append({"event": "end", "peak_memory_mib": round(memory), "seconds_total": _seconds(files.events)})
    finally:
        env.close()


def _rows_taught(event: Mapping[str, Any]) -> int:
    """New rows of a step that the student was taught; logs of earlier versions know only those that were accepted."""
    return int(event.get("rows_taught", event["accepted"]))


def _seconds(events: list[dict[str, Any]]) -> float:
    """Time spent in all phases of the run, over all the processes that worked on it."""
    return round(sum(sum(event.get("seconds", {}).values()) for event in events), 1)


State = tuple[Any, Mapping[str, Any]]
"""Observation and info, as the teacher sees them next."""


def _begin(
    config: RunConfig, files: RunFolder, env: TeachingEnv[Any, Any], teacher: Teacher, meter: _Meter, tell: Any
) -> State:
    """Reset environment and teacher, and write down what the untaught student can do."""
    files.append(
        {
            "event": "start",
            "config": orjson.loads(config.model_dump_json()),
            "skills": list(env.task.skills),
            "privileged": isinstance(teacher, Privileged),
            **_freeze_skills(files, env),
            **_fingerprint(env.task),
            "prerequisites": {skill: list(before) for skill, before in env.task.prerequisites.items()},
            "versions": versions_here(),
            "machine": {
                # Not platform.platform(), which starts a process, and a kill would leave that behind.
                "system": f"{platform.system()} {platform.release()} {platform.machine()}",
                "python": platform.python_version(),
                "folder": _here(),
            },
        }
    )
    tell(files.events[-1])
    observation, info = env.reset(seed=config.seed)
    teacher.reset(child_seed(config.seed, "teacher"))
    now = env.situation
    files.append(
        {
            "event": "reset",
            "step": 0,
            "episode": now.seed,
            **_examined(env),
            "baseline": dict(now.baseline),
            "kept": _keep(files, env, teacher),
            **meter.read(),
            "seconds": dict(env.seconds),
        }
    )
    tell(files.events[-1])
    return observation, info


def _step(
    files: RunFolder,
    env: TeachingEnv[Any, Any],
    teacher: Teacher,
    meter: _Meter,
    observation: Any,
    info: Mapping[str, Any],
    tell: Any,
) -> State:
    """Let the teacher act once, and write down what came of it."""
    with _blaming(teacher, files, env, InvalidAction, InvalidData):
        action = teacher.act(observation, info)
        if isinstance(action, Plan):
            action = env.action(action)
    with _blaming(teacher, files, env, InvalidAction):  # InvalidData can be of any part in a step
        seen, reward, terminated, truncated, info = env.step(action)
    teacher.observe(Transition(observation, action, reward, seen, terminated, truncated, info))
    now, seconds = env.situation, env.seconds
    rows = now.taught[len(now.taught) - info["rows"]["accepted"] :]
    with seconds("save"):
        kept = _keep(files, env, teacher, rows)
        with files.writing(f"steps/{now.step:03d}/student"):
            place = files.step(now.step) / "student"
            shutil.rmtree(place, ignore_errors=True)  # of a kill: libraries write drafts of their own names
            env.student.save(place)
    files.append(
        {
            "event": "step",
            "step": now.step,
            "requests": [r.model_dump(exclude={"exemplar"}, exclude_defaults=True) for r in info["plan"].requests],
            **{key: info["rows"][key] for key in ("asked", "accepted", "clipped", "dropped", "shortfall", "taught")},
            "difficulty": _mean_difficulty(rows),
            **_examined(env),
            "reward": reward,
            "reward_error": info["reward_error"],
            "gain_by_skill": info["skill_gain"],
            "teach": info["teach"],
            "dialogue": _dialogue(teacher),
            "rows_taught": _newly_taught(files, env, info),
            "rows_total": len(now.taught),
            "tokens": {"taught": info["teach"]["tokens"], "answered": now.examination.tokens},
            "terminated": terminated,
            "truncated": truncated,
            "kept": kept,
            **meter.read(),
            "seconds": dict(seconds),
        }
    )
    tell(files.events[-1])
    return seen, info


@contextmanager
def _blaming(
    teacher: Teacher, files: RunFolder, env: TeachingEnv[Any, Any], *kinds: type[DataEnvError]
) -> Iterator[None]:
    """Says of errors of these `kinds` whose action it was, and how to go on."""
    try:
        yield
    except kinds as error:
        said = str(error).removeprefix(f"Teacher '{teacher.name}': ").rstrip(".")
        raise type(error)(
            f"Teacher '{teacher.name}' at step {env.situation.step + 1}: {said}; mend it, then "
            f"'dataenv resume {files.path}' goes on from the last finished step."
        ) from error


def _newly_taught(files: RunFolder, env: TeachingEnv[Any, Any], info: Mapping[str, Any]) -> int:
    """How many of the step's accepted rows were taught: those not too long for the student.

    Its report is about the whole lesson. Under "retrain" that is all rows so far; under "continue" a replayed row that
    is too long counts against the new ones, so this is the least there can have been.
    """
    accepted, report = info["rows"]["accepted"], info["teach"]
    taught = accepted - report["overlong"]
    if env.regime == "retrain":
        taught = report["rows"] - sum(_rows_taught(event) for event in files.events if event["event"] == "step")
    return int(min(max(taught, 0), accepted))


def _examined(env: TeachingEnv[Any, Any]) -> dict[str, Any]:
    """What the present examination says."""
    now = env.situation
    exam = now.examination
    scores: tuple[SkillScore, ...] = exam.by_skill(env.task.skills)
    return {
        "scores": {score.skill: [score.n, score.correct] for score in scores},
        "accuracy": exam.accuracy,
        "error": exam.error,
        "overlong": exam.overlong,
        "shots": exam.shots,
        "answered": exam.tokens,
        "student_version": env.student.version,
    }


def _dialogue(teacher: Teacher) -> list[dict[str, Any]]:
    """What a teacher that explains itself thought and had refused; what it saw and wrote is in `dialogue.jsonl`."""
    dialogue = teacher.dialogue if isinstance(teacher, Explaining) else ()
    return [exchange.model_dump(mode="json", exclude={"saw", "wrote"}, exclude_defaults=True) for exchange in dialogue]


def _keep(
    files: RunFolder, env: TeachingEnv[Any, Any], teacher: Teacher, rows: tuple[Example, ...] | None = None
) -> dict[str, str]:
    """Write the step's answers, the teacher's state and the rows; returns each file's hash."""
    folder = files.step(env.situation.step)
    state = teacher.state()
    try:
        content = json.dumps(state, sort_keys=True).encode()  # not orjson: a generator's state has 128-bit numbers
    except (TypeError, ValueError) as error:
        raise InvalidData(
            f"Teacher '{teacher.name}': state() must return what JSON can say, for a run to go on from: numbers, "
            f"texts, and lists and dicts of them ({error})."
        ) from error
    kept = {
        "attempts.jsonl": files.write_lines(folder / "attempts.jsonl", env.situation.examination.attempts),
        "teacher.json": files.write(folder / "teacher.json", content),
    }
    if env.situation.structure is not None:
        content = env.situation.structure.model_dump_json().encode()
        kept["structure.json"] = files.write(folder / "structure.json", content)
    if rows is not None:
        kept["rows.jsonl"] = files.write_lines(folder / "rows.jsonl", rows)
        if isinstance(teacher, Explaining) and teacher.dialogue:
            kept["dialogue.jsonl"] = files.write_lines(folder / "dialogue.jsonl", teacher.dialogue)
        if env.rejected:
            kept["rejected.jsonl"] = files.write_lines(folder / "rejected.jsonl", env.rejected)
    return kept


def _freeze_skills(files: RunFolder, env: TeachingEnv[Any, Any]) -> dict[str, str]:
    """Write down the skills that were discovered, so that the run goes on with these very ones; returns their hash."""
    if not isinstance(env.task, Discovered):
        return {}
    return {"skills.json": files.write(files.path / "skills.json", orjson.dumps(freeze(env.task.discovery)))}


def _frozen_skills(files: RunFolder) -> Discovery | None:
    """What `_freeze_skills` wrote, where the run has begun."""
    hash = files.events[0].get("skills.json") if files.events else None
    if hash is None:
        return None
    content = files.read(files.path / "skills.json", hash)
    if content is None:
        raise RunError(f"{files.path}/skills.json is not as it was written; put it back, or start anew with --out.")
    return thaw(orjson.loads(content))


def _fingerprint(task: Task) -> dict[str, str]:
    """A hash of all problems of a task of fixed data, those of the exam too, in their order; none for other tasks."""
    task = task.task if isinstance(task, Discovered) else task
    if isinstance(task, ProceduralTask):
        return {}
    parts = {split: [(p.id, p.skill, p.solution) for p in task.problems(split, None, 0)] for split in SHARES}
    return {"data": content_hash(parts)}


# -- what must hold -------------------------------------------------------------------------------------------------


def _must_be_free(folder: Path) -> None:
    """Raises RunError where something stands that is not what a kill leaves of a run's first moment."""
    ours = {"events.jsonl", ".config.json.part", "chat"}  # answers are kept before there is anything else
    held: list[Path] = []
    with suppress(OSError):  # there is none, or it may not be read: opening it will say so
        held = sorted(folder.iterdir())
    if others := [p.name for p in held if p.name not in ours or (p.name == "events.jsonl" and p.stat().st_size)]:
        raise RunError(f"{folder} is not empty and holds no run ({others[0]}); choose another --out.")


def _must_have_its_log(files: RunFolder) -> None:
    """Raises RunError where steps were finished and the log knows nothing of them, nor was it set aside."""
    if files.events or files.begun or (files.path / "events.jsonl.lost").exists():
        return
    if (files.path / "steps" / "001").exists():
        raise RunError(
            f"{files.path}/events.jsonl is empty, but steps were finished here; put it back, or choose another --out."
        )


def _must_have_its_data(files: RunFolder, task: Task) -> None:
    """Raises RunError where the task's problems are not those the run began with."""
    before = files.events[0].get("data") if len(files.events) > 1 else None
    if before is not None and _fingerprint(task) != {"data": before}:
        raise RunError(
            f"The problems of '{task.name}' are not those that the run in {files.path} began with; put them back, or "
            "start a new run with another --out."
        )


@contextmanager
def _where_it_began(files: RunFolder) -> Iterator[None]:
    """Work in the directory the run was begun in, so that relative paths of its parts go on meaning the same files."""
    here = _here()
    began = files.events[0].get("machine", {}).get("folder", here) if files.events else here
    if not here or began == here or not os.access(f"{began}/.", os.X_OK):
        yield
        return
    files.path = files.path.resolve()
    with chdir(began):
        yield


def _here() -> str:
    """The working directory; empty where it was removed."""
    try:
        return str(Path.cwd())
    except OSError:
        return ""


def _withdraw(folder: Path, absent: list[Path]) -> None:
    """Take away what a run that could not begin has written, and those of its folders that were not there before."""
    shutil.rmtree(folder / "steps", ignore_errors=True)
    for name in ("skills.json", "events.jsonl", "config.json"):
        with suppress(OSError):
            (folder / name).unlink()
    for place in absent:
        with suppress(OSError):  # another run has come to stand beside it
            place.rmdir()


# -- going on ---------------------------------------------------------------------------------------------------------


def _restored(config: RunConfig, files: RunFolder, env: TeachingEnv[Any, Any], teacher: Teacher) -> State | None:
    """Environment and teacher as they were after the last finished step; None when the run has to begin anew."""
    taught: list[Example] = []
    good = 0
    for i, event in enumerate(files.events):
        if event["event"] in ("reset", "step"):
            rows = _rows(files, event)
            if rows is None or (config.select == "best" and event["step"] and not _loads(files, event, env)):
                break
            taught += rows
        good = i + 1
    for i, event in reversed(list(enumerate(files.events[:good]))):
        if event["event"] == "step":
            if _loads(files, event, env):
                break
            good = i
            del taught[event["rows_total"] - event["accepted"] :]
    files.keep(good)
    begun = next((event for event in files.events if event["event"] == "reset"), None)
    if begun is None:
        files.keep(0)
        return None
    last = next(event for event in reversed(files.events) if event["event"] in ("reset", "step"))
    step = last["step"]
    if step == 0:
        env.student.reset()
    attempts = (files.step(step) / "attempts.jsonl").read_bytes().splitlines()
    examination = Examination(
        tuple(Attempt.model_validate_json(line) for line in attempts), last["shots"], last["answered"]
    )
    env.np_random, _ = seeding.np_random(config.seed)
    env.np_random.integers(2**63 - 1)  # what reset drew
    over = bool(last.get("terminated") or last.get("truncated"))
    kept = files.step(step) / "structure.json"
    situation = Situation(
        seed=begun["episode"],
        step=step,
        taught=tuple(taught),
        examination=examination,
        baseline=begun["baseline"],
        history=tuple(_past(event) for event in files.events if event["event"] == "step"),
        structure=env.read_structure(kept.read_bytes()) if kept.name in last["kept"] else None,
        over=over,
    )
    teacher.reset(child_seed(config.seed, "teacher"))
    teacher.restore(json.loads((files.step(step) / "teacher.json").read_bytes()))
    return env.resume(situation)


def _past(event: dict[str, Any]) -> Past:
    return Past(
        asked=event["asked"],
        rows=event["accepted"],
        dropped=event["dropped"],
        reward=event["reward"],
        error=event["reward_error"],
    )


def _rows(files: RunFolder, event: dict[str, Any]) -> list[Example] | None:
    """The rows of a step, or None when one of the step's files is not on disk as it was written."""
    folder = files.step(event["step"])
    content = {name: files.read(folder / name, hash) for name, hash in event["kept"].items()}
    if None in content.values():
        return None
    return [Example.model_validate_json(line) for line in (content.get("rows.jsonl") or b"").splitlines()]


def _loads(files: RunFolder, event: dict[str, Any], env: TeachingEnv[Any, Any]) -> bool:
    """Whether the student could be put back as it was after the step."""
    try:
        env.student.load(files.step(event["step"]) / "student")
    except (DataEnvError, OSError, ValueError):
        return False
    return bool(env.student.version == event["student_version"])


def _mean_difficulty(rows: tuple[Example, ...]) -> dict[str, float | None]:
    """Per skill of `rows`, None where the engine gave no difficulties."""
    known: dict[str, list[float]] = {}
    for row in rows:
        levels = known.setdefault(row.skill, [])
        if row.difficulty is not None:
            levels.append(row.difficulty)
    return {skill: round(sum(levels) / len(levels), 4) if levels else None for skill, levels in known.items()}


def versions_here() -> dict[str, str]:
    """The packages a run is made with, and digests of the code its scores depend on."""
    found = {}
    for name in ("dataenv", "gymnasium", "numpy", "torch", "transformers", "reasoning-gym", "datasets"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found | digests()
