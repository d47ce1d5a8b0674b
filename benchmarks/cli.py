"""`dataenv bench`: compare teachers, look at the result, hand it in, check what others handed in."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from dataenv.errors import InvalidData, RunError

bench = typer.Typer(help="Compare teachers, honestly: run a suite, report, pack, verify.", no_args_is_help=True)
OUT, ERR = Console(), Console(stderr=True)


class Executor(StrEnum):
    """Who carries the runs out."""

    LOCAL = "local"
    RAY = "ray"


@bench.command()
def run(
    suite: Annotated[str, typer.Argument(help="A suite's name ('dataenv bench suites'), or a TOML file.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the comparison; bench/SUITE when left out.")] = None,
    teacher: Annotated[
        list[str] | None, typer.Option(help="A further teacher: an id, or file.py:Class; may be repeated.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Seeds 0 to N-1, in place of the suite's.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes at a time (executor local); one a core when left out.")
    ] = None,
    executor: Annotated[Executor, typer.Option(help="'ray': a Ray cluster.")] = Executor.LOCAL,
    address: Annotated[
        str | None, typer.Option(help="Of the Ray cluster, 'auto' for the one here; a new one when left out.")
    ] = None,
    cpus: Annotated[float, typer.Option(min=0, help="Processors of one run (executor ray).")] = 1,
    gpus: Annotated[float, typer.Option(min=0, help="GPUs of one run (executor ray).")] = 0,
) -> None:
    """Carry out a suite, or what is left of it, and write its pages. The same command again finishes the work."""
    from dataenv.benchmarks.bench import bench as carry_out
    from dataenv.benchmarks.console import Screen
    from dataenv.benchmarks.local import Local
    from dataenv.benchmarks.page import write_pages
    from dataenv.benchmarks.ray_cluster import RayCluster
    from dataenv.benchmarks.suite import load
    from dataenv.runs.report_words import plural, points

    chosen = load(suite, teacher or (), range(seeds) if seeds else None)
    folder = out or Path("bench") / chosen.name
    by = RayCluster(address, cpus=cpus, gpus=gpus) if executor is Executor.RAY else Local(workers)
    seen = (
        f"A true difference of {points(chosen.detectable()).lstrip('+')} points from uniform would be found four times "
        f"in five, if differences scatter by {points(chosen.spread).lstrip('+')} points from seed to seed."
        if chosen.detectable() <= 1
        else "So few seeds cannot find any difference; take more."
    )
    size = f"{plural(len(chosen.cells), 'cell')}, {plural(len(chosen.seeds), 'seed')}"
    _say(f"{chosen.name}: {plural(len(chosen.labels), 'teacher')}, {size}. {seen}")
    try:
        with Screen(OUT, folder) as screen:
            over = carry_out(chosen, folder, by, screen)
    except KeyboardInterrupt:
        ERR.print("interrupted; the same command goes on from here", soft_wrap=True, markup=False)
        sys.exit(130)
    failed = [f"{job.cell}: {job.entrant}, seed {job.seed}: {fault}" for job, fault in over.items() if fault]
    for line in failed[:20]:
        _say(f"failed: {line}")
    try:
        _say(f"page: {write_pages(folder)}")
    except InvalidData as error:
        raise RunError(f"{len(failed)} of {len(over)} runs failed. {error}") from error
    if failed:
        raise RunError(f"{len(failed)} of {len(over)} runs failed; the same command tries them again.")


@bench.command()
def report(folder: Annotated[Path, typer.Argument(help="The folder of a comparison, finished or not.")]) -> None:
    """Write the pages of a comparison anew: report/index.html, board.md and board.csv."""
    from dataenv.benchmarks.page import write_pages

    _say(str(write_pages(folder)))


@bench.command()
def pack(
    folder: Annotated[Path, typer.Argument(help="The folder of a comparison.")],
    out: Annotated[Path | None, typer.Option(help="The bundle to write; FOLDER.tar.gz when left out.")] = None,
) -> None:
    """Make one archive of all that the scores follow from: settings, plans, rows, students, hashes."""
    from dataenv.benchmarks.bundle import pack as make

    _say(f"bundle: {make(folder, out or folder.with_name(f'{folder.resolve().name}.tar.gz'))}")


@bench.command()
def verify(
    bundle: Annotated[Path, typer.Argument(help="What 'dataenv bench pack' wrote.")],
    sample: Annotated[int, typer.Option(min=0, help="Runs to teach again from their rows.")] = 3,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Draws the sample and the fresh exam; from the bundle when left out.")
    ] = None,
) -> None:
    """Check a bundle: all there, unaltered, its students examined again, a sample of its runs taught again."""
    from dataenv.benchmarks.verify import must_be_sound

    must_be_sound(bundle, sample=sample, seed=seed, tell=_say)
    _say("sound: nothing is missing, altered, or comes out otherwise")


@bench.command(name="suites")
def suites_() -> None:
    """List the suites that come along."""
    import tomllib

    from dataenv.benchmarks.suite import suites

    for name, path in suites().items():
        _say(f"{name}: {tomllib.loads(path.read_text())['about']}")


def _say(line: str) -> None:
    OUT.print(line, soft_wrap=True, markup=False, highlight=False)
