"""The command line: run, resume, report, list, doctor. Every command is a few lines over the library."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from pydantic import ValidationError
from rich.console import Console
from rich.text import Text

from dataenv import __version__
from dataenv.errors import DataEnvError, InvalidData
from dataenv.runs.config import RunConfig

app = typer.Typer(
    help="A gymnasium for teachers: agents that decide which training data a student model needs next.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
OUT = Console()
ERR = Console(stderr=True)
_DEFAULT = RunConfig()


class Kind(StrEnum):
    """What can be listed."""

    tasks = "tasks"
    students = "students"
    teachers = "teachers"
    engines = "engines"
    envs = "envs"


class Regime(StrEnum):
    """How rows accumulate."""

    CONTINUE = "continue"
    RETRAIN = "retrain"


class Select(StrEnum):
    """Which student sits the exam."""

    LAST = "last"
    BEST = "best"


JsonFlag = Annotated[
    bool, typer.Option("--json", help="Print one JSON object as the last line of stdout; the rest goes to stderr.")
]


@app.command()
def run(
    env: Annotated[str, typer.Option(help="Environment id; 'dataenv list envs'.")] = _DEFAULT.env,
    task: Annotated[
        str, typer.Option(help="Task id, 'id:argument' for e.g. gsm8k:FOLDER or jsonl:FILE.")
    ] = _DEFAULT.task,
    student: Annotated[str, typer.Option(help="Student id, Hub id, or folder.")] = _DEFAULT.student,
    teacher: Annotated[str, typer.Option(help="Teacher id; 'dataenv list teachers'.")] = _DEFAULT.teacher,
    engine: Annotated[str | None, typer.Option(help="Engine id; the task's own when left out.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Plans in the episode.")] = _DEFAULT.steps,
    rows: Annotated[int, typer.Option(min=1, help="Most rows of one plan.")] = _DEFAULT.rows,
    max_rows: Annotated[
        int | None, typer.Option(min=1, help="Most rows of the episode; steps x rows when left out.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="All randomness comes from it.")] = _DEFAULT.seed,
    regime: Annotated[
        Regime, typer.Option(help="'retrain': from the untaught student on all rows, each step.")
    ] = Regime.CONTINUE,
    replay: Annotated[
        float, typer.Option(min=0, help="Earlier rows taught again per new row (regime continue).")
    ] = _DEFAULT.replay,
    feedback: Annotated[int, typer.Option(min=0, help="Feedback problems per skill; 0 for all.")] = _DEFAULT.feedback
    or 0,
    exam: Annotated[int, typer.Option(min=0, help="Exam problems per skill; 0 for all.")] = _DEFAULT.exam or 0,
    select: Annotated[
        Select, typer.Option(help="Student the exam judges: the last, or the best on the selection split.")
    ] = Select.LAST,
    target: Annotated[float | None, typer.Option(help="End when this feedback accuracy is reached.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="An option of a part, e.g. --set student.learning_rate=5e-4.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; runs/TASK-STUDENT-TEACHER-SEED when left out.")] = None,
    json: JsonFlag = False,
) -> None:
    """Teach a student for one episode, then give it the sealed exam. The same command goes on where it was stopped."""
    try:
        config = RunConfig(
            env=env,
            task=task,
            student=student,
            teacher=teacher,
            engine=engine,
            steps=steps,
            rows=rows,
            max_rows=max_rows,
            seed=seed,
            regime=regime.value,
            replay=replay,
            feedback=feedback or None,
            exam=exam or None,
            select=select.value,
            target=target,
            options=_options(set_ or []),
        )
    except ValidationError as error:
        fault = error.errors()[0]
        raise InvalidData(f"--{'.'.join(map(str, fault['loc']))}: {fault['msg']} (got {fault['input']!r}).") from error
    name = "-".join(_file_name(part) for part in (task, student, teacher, str(seed)))
    from dataenv.runs.episode import start

    folder = out or Path("runs") / name
    _watched(folder, json, lambda watcher: start(config, folder, watcher))


@app.command()
def resume(folder: Annotated[Path, typer.Argument(help="A run folder.")], json: JsonFlag = False) -> None:
    """Go on with a run that was stopped; it ends as it would have ended."""
    from dataenv.runs import episode

    _watched(folder, json, lambda watcher: episode.resume(folder, watcher))


@app.command()
def report(folder: Annotated[Path, typer.Argument(help="A run folder, finished or not.")]) -> None:
    """Write the run's report.html anew and print where it is."""
    from dataenv.runs.report import write_report

    OUT.print(str(write_report(folder)), soft_wrap=True, markup=False)


@app.command(name="list")
def list_(kind: Annotated[Kind, typer.Argument(help="What to list.")]) -> None:
    """List the ids of tasks, students, teachers, engines or envs."""
    _print_pairs(_listing(kind).items())


@app.command()
def doctor() -> None:
    """Say what this machine can do: GPU, bfloat16, weights, optional packages."""
    from dataenv.doctor import findings

    _print_pairs(findings())


@app.callback(invoke_without_command=True)
def _main(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        OUT.print(__version__)
        raise typer.Exit


def main() -> None:
    """Entry point: errors of ours are one sentence on stderr and exit code 1; an interrupt is exit code 130."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    logging.getLogger("transformers").setLevel(logging.ERROR)
    try:
        app(standalone_mode=True)
    except DataEnvError as error:
        ERR.print(f"error: {error}", style="red", soft_wrap=True, markup=False, highlight=False)
        sys.exit(1)


def _print_pairs(pairs: Iterable[tuple[str, str]]) -> None:
    """One line for each pair, in two columns; never wrapped here, so that other programs can read it by lines."""
    pairs = list(pairs)
    width = max(len(name) for name, _ in pairs)
    for name, text in pairs:
        OUT.print(Text(f"{name:<{width}}  {text}"), soft_wrap=True)


def _watched(folder: Path, json: bool, work: Callable[[Any], dict[str, Any]]) -> None:
    """Carry out a run with a live display, write its report, and print the outcome."""
    from dataenv.progress import listening
    from dataenv.runs.console import Screen
    from dataenv.runs.report import write_report

    console = ERR if json else OUT
    try:
        with Screen(console) as screen, listening(screen):
            result = work(screen)
        page = write_report(folder)
    except KeyboardInterrupt:
        ERR.print(
            f"interrupted; 'dataenv resume {folder}' goes on from the last finished step", markup=False, soft_wrap=True
        )
        sys.exit(130)
    console.print(f"report: {page}", soft_wrap=True, markup=False, highlight=False)
    if json:
        sys.stdout.write(orjson.dumps(result).decode() + "\n")


def _options(settings: list[str]) -> dict[Any, dict[str, Any]]:
    """--set values, 'part.option=value' with a JSON value or plain text, as keyword arguments by part."""
    options: dict[Any, dict[str, Any]] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        part, dot, option = name.partition(".")
        if not equals or not dot or part not in ("task", "student", "engine", "teacher"):
            raise InvalidData(f"--set {setting}: write part.option=value, with part task, student, engine or teacher.")
        try:
            value = orjson.loads(text)
        except ValueError:
            value = text
        options.setdefault(part, {})[option] = value
    return options


def _listing(kind: Kind) -> dict[str, str]:
    from dataenv.agents import teachers
    from dataenv.engines import engines
    from dataenv.envs import ENVS
    from dataenv.students import students
    from dataenv.tasks import tasks

    if kind is Kind.envs:
        return {name: f"{summary} ({id})" for name, (id, _, summary) in ENVS.items()}
    registry = {Kind.tasks: tasks, Kind.students: students, Kind.teachers: teachers, Kind.engines: engines}[kind]
    return {id: entry.summary for id, entry in registry.entries().items()}


def _file_name(text: str) -> str:
    return "".join(c if c.isalnum() or c in "._" else "-" for c in Path(text).name or text)
