"""The command line: run, resume, report, skills, list, doctor, bench. Every command is a few lines over the library."""

from __future__ import annotations

import codecs
import io
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from pydantic import ValidationError
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from dataenv import __version__
from dataenv.benchmarks.cli import bench
from dataenv.errors import DataEnvError, InvalidData, Note, RunError, UnknownId
from dataenv.registry import meant
from dataenv.runs.config import RunConfig
from dataenv.runs.presets import merged
from dataenv.runs.presets import preset as settings_of

app = typer.Typer(
    help="A gymnasium for teachers: agents that decide which training data a student model needs next.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


app.add_typer(bench, name="bench")


class Output(Console):
    """Standard output; where it takes nothing (a full disk), that is one sentence like any other error."""

    def print(self, *objects: Any, **options: Any) -> None:
        try:
            super().print(*objects, **options)
        except OSError as error:
            with Path(os.devnull).open("w") as nowhere:  # for what is still held, so that the process can end
                os.dup2(nowhere.fileno(), self.file.fileno())
            raise RunError(
                f"The output cannot be written ({error.strerror}); give it a place and repeat the command: a run goes "
                "on where it stopped."
            ) from error


OUT = Output()
ERR = Console(stderr=True)
_DEFAULT = RunConfig()


class Kind(StrEnum):
    """What can be listed."""

    tasks = "tasks"
    students = "students"
    teachers = "teachers"
    engines = "engines"
    filters = "filters"
    envs = "envs"
    discoveries = "discoveries"
    generators = "generators"
    models = "models"


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
    context: typer.Context,
    preset: Annotated[
        str | None,
        typer.Option(help="Settings of a published experiment, for --env; what else is given here overrides them."),
    ] = None,
    env: Annotated[str, typer.Option(help="Environment id; 'dataenv list envs'.")] = _DEFAULT.env,
    task: Annotated[
        str, typer.Option(help="Task id, 'id:argument' for e.g. gsm8k:FOLDER or jsonl:FILE.")
    ] = _DEFAULT.task,
    skills: Annotated[
        str, typer.Option(help="'gold', the task's own; or discovered: 'cluster', 'file:PATH'.")
    ] = _DEFAULT.skills,
    student: Annotated[str, typer.Option(help="Student id, Hub id, or folder.")] = _DEFAULT.student,
    teacher: Annotated[str, typer.Option(help="Teacher id; 'dataenv list teachers'.")] = _DEFAULT.teacher,
    no_state: Annotated[bool, typer.Option("--no-state", help="Hide from the teacher how the student does.")] = False,
    engine: Annotated[str | None, typer.Option(help="Engine id; the task's own when left out.")] = None,
    filter_: Annotated[
        list[str] | None, typer.Option("--filter", help="A further check of rows, e.g. known:0.75; may be repeated.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Language model of parts that ask one, e.g. openai:gpt-5-mini; 'dataenv list models'."),
    ] = None,
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
    error: Annotated[
        float | None, typer.Option(help="Ask fewer feedback problems where the standard error is below this.")
    ] = None,
    redraw: Annotated[bool, typer.Option("--redraw", help="Other feedback problems in each step.")] = False,
    exam: Annotated[int, typer.Option(min=0, help="Exam problems per skill; 0 for all.")] = _DEFAULT.exam or 0,
    select: Annotated[
        Select, typer.Option(help="Student the exam judges: the last, or the best on the selection split.")
    ] = Select.LAST,
    target: Annotated[float | None, typer.Option(help="End when this feedback accuracy is reached.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="An option of a part, e.g. --set student.learning_rate=5e-4.")
    ] = None,
    unsafe_code: Annotated[
        bool, typer.Option("--unsafe-code", help="Tasks of code: run it without a sandbox, with all your rights.")
    ] = False,
    out: Annotated[
        str | None, typer.Option(metavar="PATH", help="Run folder; runs/TASK-STUDENT-TEACHER-SEED when left out.")
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Teach a student for one episode, then give it the sealed exam. The same command goes on where it was stopped."""
    settings: dict[str, Any] = {
        "env": env,
        "task": task,
        "skills": skills,
        "student": student,
        "teacher": teacher,
        "no_state": no_state,
        "engine": engine,
        "filters": tuple(filter_ or ()),
        "model": model,
        "steps": steps,
        "rows": rows,
        "max_rows": max_rows,
        "seed": seed,
        "regime": regime.value,
        "replay": replay,
        "feedback": feedback or None,
        "error": error,
        "redraw": redraw,
        "exam": exam or None,
        "select": select.value,
        "target": target,
        "options": _options(set_ or []),
    }
    if preset is not None:
        settings = merged(settings_of(preset, env), _given(context, settings))
    if unsafe_code:
        settings["options"].setdefault("task", {})["unsafe_code"] = True
    try:
        config = RunConfig(**settings)
    except ValidationError as error:
        fault = error.errors()[0]
        flag = ".".join(map(str, fault["loc"])).replace("_", "-")
        raise InvalidData(f"--{flag}: {fault['msg']} (got {fault['input']!r}).") from error
    if out == "":
        raise InvalidData("--out is empty; name a folder, or leave it out.")
    folder = Path(
        out or "runs/" + "-".join(_file_name(part) for part in (config.task, config.student, config.teacher, str(seed)))
    )

    def work(watcher: Any) -> dict[str, Any]:
        from dataenv.runs.episode import start

        return start(config, folder, watcher)

    _watched(folder, json, work, config)


@app.command()
def resume(folder: Annotated[Path, typer.Argument(help="A run folder.")], json: JsonFlag = False) -> None:
    """Go on with a run that was stopped; it ends as it would have ended."""

    def work(watcher: Any) -> dict[str, Any]:
        from dataenv.runs import episode

        return episode.resume(folder, watcher)

    _watched(folder, json, work)


@app.command()
def report(folder: Annotated[Path, typer.Argument(help="A run folder, finished or not.")]) -> None:
    """Write the run's report.html anew and print where it is."""
    from dataenv.runs.report import write_report

    OUT.print(str(write_report(folder)), soft_wrap=True, markup=False)


@app.command(name="list")
def list_(kind: Annotated[str, typer.Argument(help=f"What to list: {', '.join(Kind)}.")]) -> None:
    """List the ids of one kind of part, and what each is."""
    if kind not in list(Kind):
        raise UnknownId(f"There is no list of '{kind}'{meant(kind, Kind) or '.'} There are: {', '.join(Kind)}.")
    _print_rows(_listing(Kind(kind)).items())


@app.command()
def skills(
    task: Annotated[str, typer.Option(help="Task id, 'id:argument' for e.g. gsm8k:FOLDER.")] = _DEFAULT.task,
    discovery: Annotated[str, typer.Option(help="How: cluster, cluster:K, llm, llm:K, file:PATH, gold.")] = "cluster",
    model: Annotated[
        str | None, typer.Option(help="Language model that discovery llm asks, e.g. openai:gpt-5-mini.")
    ] = None,
    student: Annotated[
        str | None, typer.Option(help="A student to examine: are estimated weaknesses true of fresh problems?")
    ] = None,
    per_skill: Annotated[
        int | None, typer.Option(min=1, help="Problems per gold skill; as many as the environments use when left out.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the problems drawn.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Write the labels to this .jsonl file, to edit and use as file:PATH.")
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Discover a task's skills from its feedback split, and score them on fresh problems."""
    from dataenv.chat import make_client
    from dataenv.chat.introduce import introduce
    from dataenv.examine import examine
    from dataenv.skills import discoveries
    from dataenv.skills.discovered import sample
    from dataenv.skills.labels import write_labels
    from dataenv.skills.scoring import score
    from dataenv.students import make_student
    from dataenv.students.weights import cache_folder
    from dataenv.tasks import tasks

    problems, found = tasks.make(task), discoveries.make(discovery)
    pupil = make_student(student) if student else None
    ask = (lambda asked: examine(problems, pupil, asked).attempts) if pupil else None
    client = make_client(model, cache=cache_folder() / "chat") if model else None
    if not introduce(client, found) and model:
        raise InvalidData(f"Discovery '{discovery}' asks no language model; leave out --model {model}.")
    with client or nullcontext():
        if client:
            client.check()
        result = score(problems, found, ask, per_skill, seed)
    if out:
        write_labels(out, found, sample(problems, "feedback", per_skill, seed))
    console = ERR if json else OUT
    _print_rows(_skill_rows(result), console)
    for line in _skill_lines(result):
        console.print(line, soft_wrap=True, markup=False, highlight=False)
    if json:
        _print_json(result)


@app.command()
def doctor() -> None:
    """Say what this machine can do: GPU, bfloat16, weights, optional packages."""
    from dataenv.doctor import findings

    _print_rows(findings())


@app.callback(invoke_without_command=True)
def _main(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        OUT.print(__version__)
        raise typer.Exit


def main() -> None:
    """Entry point: errors of ours are one sentence on stderr and exit code 1; an interrupt is exit code 130."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for library in ("transformers", "huggingface_hub"):
        logging.getLogger(library).setLevel(logging.ERROR)
    usual = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *where: Any, **options: Any) -> None:
        if issubclass(category, Note):
            ERR.print(f"note: {message}", soft_wrap=True, markup=False, highlight=False)
        else:
            usual(message, category, *where, **options)

    warnings.showwarning = show
    codecs.register_error("plain", _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="plain")
    try:
        app(standalone_mode=True)
    except DataEnvError as error:
        ERR.print(f"error: {error}", style="red", soft_wrap=True, markup=False, highlight=False)
        sys.exit(1)


def _plain(error: UnicodeError) -> tuple[str, int]:
    """What stands for characters that the output's encoding lacks."""
    assert isinstance(error, UnicodeEncodeError)
    signs = {"\u00a0": " ", "±": "+-", "−": "-", "–": "-", "…": "..."}
    return "".join(signs.get(sign, "?") for sign in error.object[error.start : error.end]), error.end


def _print_json(result: dict[str, Any]) -> None:
    OUT.out(orjson.dumps(result).decode(), highlight=False)


def _print_rows(rows: Iterable[Sequence[str]], console: Console = OUT) -> None:
    """One line for each row, in columns; never wrapped here, so that other programs can read it by lines."""
    rows = list(rows)
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [set_cell_size(cell, width) for cell, width in zip(row, widths, strict=True)]
        console.print(Text("  ".join(cells).rstrip()), soft_wrap=True)


def _skill_rows(result: dict[str, Any]) -> Iterator[list[str]]:
    """The table of `dataenv skills`: each skill with its problems and accuracies, and the gold skills it is made of."""
    examined = result["calibration"] is not None
    yield ["skill", "feedback", *["accuracy"] * examined, "fresh", *["accuracy"] * examined, "gold skills"]
    for row in result["skills"]:
        cells = [row["skill"]]
        for split in (row["feedback"], row["selection"]):
            cells.append(str(split["n"]))
            if examined:
                cells.append(f"{split['accuracy']:.2f} ± {split['error']:.2f}" if split["n"] else "-")
        names = [f"{name} {n}" for name, n in row["gold"].items()]
        yield [*cells, ", ".join(names[:3]) + (f", {len(names) - 3} more" if len(names) > 3 else "")]


def _skill_lines(result: dict[str, Any]) -> Iterator[str]:
    """What `dataenv skills` says below its table."""
    yield ""
    if result["agreement"] is None:
        yield "agreement: none, since the task has no gold skills (all its problems have the same label)"
    else:
        for split, name in (("feedback", "feedback"), ("selection", "fresh")):
            n, rand, information = result["agreement"][split].values()
            yield f"agreement: ARI {rand:.3f}, NMI {information:.3f} with the gold skills, on {n} {name} problems"
    if result["calibration"] is not None:
        k, error, covered, explained = result["calibration"].values()
        yield f"calibration: feedback and fresh accuracy of a skill differ by {error:.3f} on average (over {k} skills)"
        yield f"  {covered:.0%} of the differences are within two standard errors"
        if explained is not None:
            yield f"  the skills explain {explained:.0%} of the variance between gold skills"


def _watched(folder: Path, json: bool, work: Callable[[Any], dict[str, Any]], config: RunConfig | None = None) -> None:
    """Carry out a run with a live display, write its report, and print the outcome. `config` None: the folder's."""
    console = ERR if json else OUT
    try:
        from dataenv.progress import listening
        from dataenv.runs.console import Screen
        from dataenv.runs.report import write_report

        with Screen(console) as screen, listening(screen):
            result = work(screen)
        try:
            line = f"report: {write_report(folder)}"
        except RunError as error:  # the run is done, whatever becomes of its page
            line = f"note: {error}"
        console.print(line, soft_wrap=True, markup=False, highlight=False)
        if json:
            _print_json(result)
    except KeyboardInterrupt:
        from dataenv.runs.folder import holds_run

        there = f"'dataenv resume {folder}' goes on from the last finished step"
        ERR.print(f"interrupted; {there if holds_run(folder) else 'nothing was begun'}", markup=False, soft_wrap=True)
        sys.exit(130)
    except DataEnvError:
        raise
    except (Exception, SystemExit) as error:
        from dataenv.runs.blame import sentence

        config = config or RunConfig.model_validate_json((folder / "config.json").read_bytes())
        if told := sentence(error, config, folder):
            raise RunError(told) from error
        raise


def _given(context: typer.Context, settings: dict[str, Any]) -> dict[str, Any]:
    """Those of a run's settings that stand on the command line, and the environment."""
    flags = {"filters": "filter_", "options": "set_"}
    sources = {name: context.get_parameter_source(flags.get(name, name)) for name in settings}
    return {
        name: value
        for name, value in settings.items()
        if name == "env" or ((source := sources[name]) is not None and source.name != "DEFAULT")
    }


def _options(settings: list[str]) -> dict[Any, dict[str, Any]]:
    """--set values, 'part.option=value' with a JSON value or plain text, as keyword arguments by part."""
    options: dict[Any, dict[str, Any]] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        part, dot, option = name.partition(".")
        if not equals or not dot or part not in ("env", "task", "student", "engine", "teacher", "model"):
            raise InvalidData(
                f"--set {setting}: write part.option=value, with part env, task, student, engine, teacher or model."
            )
        try:
            value = orjson.loads(text)
        except ValueError:
            value = text
        options.setdefault(part, {})[option] = value
    return options


def _listing(kind: Kind) -> dict[str, str]:
    from dataenv.agents import teachers
    from dataenv.chat import models
    from dataenv.engines import engines, filters
    from dataenv.envs import ENVS
    from dataenv.skills import discoveries
    from dataenv.students import students
    from dataenv.students.generators import generators
    from dataenv.tasks import tasks

    if kind is Kind.envs:
        return {name: f"{summary} ({id})" for name, (id, _, summary) in ENVS.items()}
    registries = (tasks, students, teachers, engines, filters, discoveries, generators, models)
    registry = next(registry for registry in registries if registry.plural == kind)
    return {id: entry.summary for id, entry in registry.entries().items()}


def _file_name(spec: str) -> str:
    """A part's id and the last name of its argument, as a file name."""
    id, _, argument = spec.partition(":")
    text = "-".join(Path(name).name or name for name in (id, argument) if name)
    return "".join(c if c.isalnum() or c in "._" else "-" for c in text)
