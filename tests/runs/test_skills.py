"""Discovered skills in a run: frozen when it begins, and gone on with, never found anew."""

import orjson
import pytest

from dataenv.errors import RunError
from dataenv.runs.config import RunConfig
from dataenv.runs.episode import resume, start
from dataenv.skills.discovery import NearestSkill

CONFIG = RunConfig(
    task="drills", student="micro", teacher="uniform", skills="cluster:3", steps=2, rows=12, feedback=4, exam=4,
    options={"task": {"skills": ["copying", "addition", "sorting"]}, "student": {"epochs": 1}},
)  # fmt: skip


@pytest.fixture
def stopped(tmp_path):
    """(folder, result of the whole run) of a run that lost all after its first step."""
    pytest.importorskip("sklearn")
    result = start(CONFIG, tmp_path / "run")
    events = (tmp_path / "run/events.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "run/events.jsonl").write_bytes(b"".join(events[:3]))
    return tmp_path / "run", result


def test_a_resumed_run_uses_the_skills_it_began_with(stopped, monkeypatch):
    folder, result = stopped
    skills = orjson.loads((folder / "events.jsonl").read_bytes().splitlines()[0])["skills"]
    assert len(skills) == 3

    def never(self, problems):
        raise AssertionError("the skills were discovered anew")

    monkeypatch.setattr(NearestSkill, "fit", never)
    assert resume(folder)["hash"] == result["hash"]


@pytest.mark.parametrize("spoil", [lambda f: f.unlink(), lambda f: f.write_bytes(f.read_bytes()[:-9])])
def test_spoilt_skills_are_refused_by_name(stopped, spoil):
    folder, _ = stopped
    spoil(folder / "skills.json")
    with pytest.raises(RunError, match=r"skills.json is not as it was written"):
        resume(folder)
