import orjson
import pytest

from dataenv.agents import teachers
from dataenv.errors import InvalidData
from dataenv.runs.config import RunConfig
from dataenv.runs.episode import resume, start

CONFIG = {
    "task": "drills", "student": "micro", "steps": 2, "rows": 20, "feedback": 4, "exam": 2,
    "options": {"task": {"skills": ["copying", "addition", "sorting"]}, "student": {"epochs": 1}},
}  # fmt: skip


def dealt(folder):
    events = [orjson.loads(line) for line in (folder / "events.jsonl").read_bytes().splitlines()]
    return [{r["skill"]: r["rows"] for r in event["requests"]} for event in events if event["event"] == "step"], events


@pytest.mark.parametrize("env", ["skill-list", "open-ended", "skill-tree"])
def test_without_state_it_deals_evenly_while_the_log_keeps_the_truth(tmp_path, env):
    start(RunConfig(**CONFIG, env=env, teacher="error-proportional", no_state=True), tmp_path / "blind")
    _, events = dealt(tmp_path / "blind")
    steps = [event for event in events if event["event"] == "step"]
    assert all(max(s["taught"].values()) - min(s["taught"].values()) <= 3 for s in steps)
    assert all(sum(n for n, _ in step["scores"].values()) == 12 for step in steps)


def test_with_state_it_does_not(tmp_path):
    start(RunConfig(**CONFIG, teacher="error-proportional"), tmp_path / "seeing")
    shares, _ = dealt(tmp_path / "seeing")
    assert any(max(step.values()) - min(step.values()) > 1 for step in shares)


def test_a_stopped_run_goes_on_without_state(tmp_path):
    config = RunConfig(**CONFIG, teacher="random", no_state=True)
    whole = start(config, tmp_path / "run")
    events = (tmp_path / "run/events.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "run/events.jsonl").write_bytes(b"".join(events[:3]))
    assert resume(tmp_path / "run")["hash"] == whole["hash"]


def test_who_looks_ahead_cannot_be_blind():
    assert teachers.make("oracle-greedy")
    with pytest.raises(InvalidData, match="no no-state twin"):
        RunConfig(teacher="oracle-greedy", no_state=True).build_teacher()
