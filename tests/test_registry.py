import random
import re
import sys
from pathlib import Path

import pytest

from dataenv.agents import teachers
from dataenv.engines import engines, filters
from dataenv.errors import DataEnvError, InvalidData, UnknownId
from dataenv.registry import Registry
from dataenv.students import make_student, students
from dataenv.tasks import tasks


class Part:
    def __init__(self, argument="none", *, size=1):
        self.argument, self.size = argument, size
        if size == 13:
            raise TypeError("a bug inside the part")


def part_with_options(argument="", **options):
    return Part(argument, **options)


@pytest.fixture
def parts():
    registry = Registry("part", {"dict": ("builtins:dict", "a built-in")})
    registry.register("part", Part, "for tests")
    registry.register("wrapped", part_with_options)
    return registry


def test_make_passes_argument_and_options(parts):
    made = parts.make("part:a:b", size=2)
    assert (made.argument, made.size) == ("a:b", 2)
    assert parts.make("part").argument == "none"
    assert parts.make("part:").argument == ""
    assert parts.make("dict", x=1) == {"x": 1}


def test_unknown_id_names_near_ones_and_the_command(parts):
    with pytest.raises(UnknownId, match=r"^No part is called 'prat'; did you mean 'part'\? 'dataenv list parts'"):
        parts.make("prat")
    with pytest.raises(UnknownId, match=r"^No part is called 'zzzz'; 'dataenv list"):
        parts.make("zzzz")


def test_a_wrong_option_is_named_even_through_a_function_that_passes_options_on(parts):
    for id in ("part", "wrapped"):
        with pytest.raises(InvalidData, match=rf"^part '{id}' has no option 'bogus'. It has: size.$"):
            parts.make(id, bogus=1)


@pytest.mark.parametrize(
    ("registry", "slip", "meant"),
    [
        (teachers, "eror", "'error-proportional'?"),
        (teachers, "proportional", "'error-proportional'?"),
        (teachers, "oracle", "'oracle-greedy'?"),
        (teachers, "randm", "'random'"),
        (tasks, "gsm", "'gsm8k'"),
        (tasks, "drill", "'drills'"),
    ],
)
def test_a_slip_finds_what_was_meant_first(registry, slip, meant):
    with pytest.raises(UnknownId) as caught:
        registry.make(slip)
    assert f"; did you mean {meant}" in str(caught.value)


@pytest.mark.parametrize(
    ("registry", "id", "usage"),
    [
        (tasks, "jsonl", "jsonl:FILE"),
        (tasks, "reasoning-gym", "reasoning-gym:gcd,lcm"),
        (students, "hf", "hf:ORG/NAME"),
    ],
)
def test_a_missing_argument_is_asked_for_as_it_is_written(registry, id, usage):
    with pytest.raises(InvalidData, match=rf"^{registry.kind} '{id}' needs an argument: write {usage}\.$"):
        registry.make(id)


def test_a_part_that_lacks_something_else_is_told_so():
    with pytest.raises(InvalidData, match=r"engine 'pool' cannot be built: .*'task'"):
        engines.make("pool")


def test_a_bug_inside_a_part_keeps_its_traceback(parts):
    with pytest.raises(TypeError, match="a bug inside") as caught:
        parts.make("part", size=13)
    assert not isinstance(caught.value, DataEnvError)


def test_a_taken_id_is_refused_and_the_first_stays(parts):
    with pytest.raises(InvalidData, match="already taken"):
        parts.register("part", dict)
    assert isinstance(parts.make("part"), Part)


def test_plugins_come_through_entry_points_and_never_replace_built_in_parts(parts, monkeypatch):
    class Point:
        def __init__(self, name):
            self.name, self.value, self.module = name, "builtins:list", "plugin"

    asked = []
    monkeypatch.setattr(
        "dataenv.registry.entry_points", lambda group: asked.append(group) or [Point("new"), Point("part")]
    )
    assert parts.make("new") == []
    assert isinstance(parts.make("part"), Part)
    assert asked == ["dataenv.parts"]


@pytest.mark.parametrize("registry", [tasks, engines, students, teachers], ids=lambda r: r.kind)
def test_every_built_in_entry_loads_and_says_what_it_is(registry):
    assert registry.entries()
    for entry in registry.entries().values():
        assert callable(entry.load())
        assert entry.summary
    assert list(registry.entries()) == sorted(registry.entries())


def test_a_part_of_a_file_finds_its_own_module_and_the_file_hides_no_other(parts, tmp_path):
    file = tmp_path / "random.py"
    for size in (1, 2):
        file.write_text(
            f"from __future__ import annotations\nfrom dataclasses import dataclass\n\nSIZE = {size}\n\n"
            "@dataclass\nclass Mine:\n    size: int = SIZE\n"
        )
        made = parts.make(f"{file}:Mine")
        assert made.size == size
        assert size == sys.modules[type(made).__module__].SIZE
    assert sys.modules["random"] is random


def test_the_page_of_engines_has_each_or_says_where_it_is():
    docs = Path(__file__).parents[1] / "docs"
    rows = re.findall(r"^\| `([\w-]+)", (docs / "engines.md").read_text(), re.MULTILINE)
    assert not set(filters.entries()) - set(rows)
    elsewhere = re.findall(r"^\| `([\w-]+)", (docs / "llm-teachers.md").read_text(), re.MULTILINE)
    assert not set(engines.entries()) - set(rows) - set(elsewhere)


def test_a_student_takes_hub_ids_and_folders_without_a_prefix(tmp_path, monkeypatch):
    assert make_student("org/name").name == "org/name"
    assert make_student("hf:org/name", name="mine").name == "mine"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    assert make_student("folder").name == "folder"
    with pytest.raises(UnknownId, match="did you mean 'micro'"):
        make_student("mikro")
    with pytest.raises(UnknownId, match=r"^No student is called ''; 'dataenv list students'"):
        make_student("")
    for absent in ("./nowhere", "../x", "/nope", "~/x", "a/b/c", "nowhere/"):
        for spec in (absent, f"hf:{absent}"):
            with pytest.raises(InvalidData, match=f"^There is no folder '{absent}'; give"):
                make_student(spec)
    assert make_student("./folder").name == "./folder"
    with pytest.raises(InvalidData, match="write hf:ORG/NAME or hf:FOLDER"):
        make_student("hf:")
    with pytest.raises(InvalidData, match=r"student 'micro' has no option 'bogus'\. It has: name, method"):
        make_student("micro", bogus=1)
