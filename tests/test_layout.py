"""The rooms of the design: who may import whom, and what importing costs."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "dataenv"
PLAIN = {
    f"dataenv.{name}"
    for name in ("errors", "records", "images", "seeding", "progress", "registry", "checks", "given", "meeting")
}
SHARED = PLAIN | {"dataenv.protocols", "dataenv.spaces"}
MAY_IMPORT = {
    "errors": set(),
    "records": set(),
    "images": {"dataenv.errors", "dataenv.records"},
    "seeding": set(),
    "spaces": set(),
    "progress": set(),
    "meeting": set(),
    "registry": {"dataenv.errors"},
    "checks": {"dataenv.errors", "dataenv.records"},
    "given": {"dataenv.errors"},
    "protocols": {"dataenv.records"},
    "verifiers": PLAIN,
    "chat": PLAIN | {"dataenv.protocols", "dataenv.students"},  # a local model is an untaught student's
    "skills": SHARED | {"dataenv.chat"},
    "tasks": PLAIN | {"dataenv.protocols", "dataenv.verifiers"},
    # a judge of pictures is an untaught student
    "engines": SHARED | {"dataenv.verifiers", "dataenv.chat", "dataenv.skills", "dataenv.tasks", "dataenv.students"},
    "examine": SHARED | {"dataenv.verifiers"},
    "exercises": SHARED | {"dataenv.examine"},
    "envs": SHARED
    | {"dataenv.tasks", "dataenv.engines", "dataenv.students", "dataenv.examine", "dataenv.skills", "dataenv.chat"},
    "agents": SHARED | {"dataenv.chat", "dataenv.exercises"},
    "students": SHARED | {"dataenv.tasks"},  # the micro student practises drills
}
"""Room -> modules of dataenv it may import besides its own; `runs`, `benchmarks` and `cli` may import everything."""

HEAVY = {
    "torch",
    "sklearn",
    "scipy",
    "transformers",
    "diffusers",
    "safetensors",
    "gguf",
    "peft",
    "vllm",
    "openai",
    "datasets",
    "reasoning_gym",
    "huggingface_hub",
    "jsonschema",
    "bfcl_eval",
    "math_verify",
    "PIL",
    "sympy",
}


def modules():
    """(dotted name, file) of every module, seen through the symlinks as it is imported."""
    found = []
    for top in sorted(PACKAGE.iterdir()):
        if top.suffix == ".py":
            found.append((f"dataenv.{top.stem}", top))
        elif top.is_dir():
            found += [(f"dataenv.{top.name}.{file.stem}", file) for file in sorted(top.rglob("*.py"))]
    return found


def imported(tree, at_import_time=False):
    """Names of the modules that `tree` imports; with `at_import_time`, not those inside functions or TYPE_CHECKING."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        else:
            later = at_import_time and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            never = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
            if not later and not never:
                yield from imported(node, at_import_time)


def test_there_is_something_to_look_at():
    assert len(modules()) > 25
    assert {"dataenv.agents.teacher", "dataenv.students.lora", "dataenv.records"} <= {name for name, _ in modules()}


@pytest.mark.parametrize(("name", "file"), modules(), ids=[name for name, _ in modules()])
def test_rooms_import_only_what_they_may(name, file):
    room = name.split(".")[1]
    if room not in MAY_IMPORT:
        pytest.skip("may import everything")
    allowed = MAY_IMPORT[room] | {f"dataenv.{room}"}
    known = {module.removesuffix(".__init__") for module, _ in modules()}
    for module in imported(ast.parse(file.read_text())):
        if module.split(".")[0] == "dataenv" and module in known and module != "dataenv":
            assert any(module == a or module.startswith(a + ".") for a in allowed), f"{name} imports {module}"


@pytest.mark.parametrize(
    ("name", "file"),
    [m for m in modules() if m[0].split(".")[1] != "students"],
    ids=lambda m: m if isinstance(m, str) else "",
)
def test_no_room_but_the_students_imports_heavy_packages_on_its_own_import(name, file):
    if name.startswith("dataenv.benchmarks"):
        pytest.skip("benchmarks are programs")
    heavy = {module.split(".")[0] for module in imported(ast.parse(file.read_text()), at_import_time=True)} & HEAVY
    assert not heavy


def test_import_is_light():
    code = (
        "import sys, dataenv.agents, dataenv.students, dataenv.tasks, dataenv.engines, dataenv.envs.skill_list\n"
        f"print(*sorted({HEAVY!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout.strip() == ""


def test_building_an_environment_loads_nothing_heavy():
    code = (
        "import sys, gymnasium, dataenv\n"
        "env = gymnasium.make('dataenv/SkillList-v0', student='micro')\n"
        "env.action_space.sample()\n"
        f"print(*sorted({HEAVY - {'safetensors', 'huggingface_hub'}!r} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True, cwd="/"
    )
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("name", ["agents", "students", "benchmarks"])
def test_the_top_level_folders_are_reached_through_relative_links(name):
    link = PACKAGE / name
    assert link.is_symlink()
    assert str(link.readlink()) == f"../{name}"
    assert (ROOT / name / "__init__.py").is_file()


def test_only_dataenv_is_packaged():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]
    assert settings == {"include": ["dataenv*"]}


def test_no_module_is_longer_than_a_head_can_hold():
    for name, file in modules():
        assert len(file.read_text().splitlines()) <= 600, name


def test_no_breakpoint_and_no_wildcard_is_left():
    for name, file in modules():
        for node in ast.walk(ast.parse(file.read_text())):
            assert not (isinstance(node, ast.Call) and getattr(node.func, "id", "") == "breakpoint"), name
            assert not (isinstance(node, ast.ImportFrom) and node.names[0].name == "*"), name
