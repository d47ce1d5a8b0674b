"""Pictures in the report: in the page itself, few, and nothing else can get in by them."""

import base64
import json
import re

import numpy as np

from dataenv.records import Attempt, Example, Image, Problem, Prompt
from dataenv.runs.report import write_report
from dataenv.runs.report_pictures import LARGEST, source
from dataenv.tasks.scenes import Scenes


def make_run(folder, problems):
    """A run of one step, whose student answers each problem wrong, then right, and is taught all of them."""
    scores = {"scores": {"s": [len(problems), 0]}, "accuracy": 0.0, "error": 0.1}
    events = [
        {"event": "start", "config": {"env": "skill-list", "task": "scenes"}, "skills": ["s"], "hash": "ab"},
        {"event": "reset", **scores},
        {"event": "step", "step": 1, "asked": 1, "accepted": 1, "taught": {"s": 1}, "reward": 0.1, **scores},
        {"event": "end", "seconds_total": 1.0, "hash": "cd"},
    ]
    for number, right in enumerate((False, True)):
        (folder / f"steps/{number:03}").mkdir(parents=True)
        attempts = [Attempt(problem=p, response="r", score=float(right), correct=right) for p in problems]
        lines = "".join(attempt.model_dump_json() + "\n" for attempt in attempts)
        (folder / f"steps/{number:03}/attempts.jsonl").write_text(lines)
    rows = "".join(Example.from_problem(p).model_dump_json() + "\n" for p in problems)
    (folder / "steps/001/rows.jsonl").write_text(rows)
    (folder / "config.json").write_text(json.dumps(events[0]["config"]))
    (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    return write_report(folder).read_text()


def shown(page):
    return [base64.b64decode(found) for found in re.findall(r'<img src="data:image/png;base64,([^"]*)"', page)]


def test_pictures_stand_beside_the_questions(tmp_path):
    problems = [
        p.model_copy(update={"skill": "s"}) for p in Scenes().write("colour", 5, None, np.random.default_rng(0))
    ]
    page = make_run(tmp_path / "run", problems)
    pictures = {problem.prompt.images[0].data for problem in problems}
    assert set(shown(page)) == pictures and len(shown(page)) >= 6
    assert "img-src data:" in page and "http" not in re.sub(
        r"base64,[^\"]*", "", "".join(re.findall("<img[^>]*>", page))
    )


def test_a_page_holds_a_few_dozen_at_most(tmp_path):
    problem = Scenes().write("colour", 1, None, np.random.default_rng(0))[0]
    many = Prompt(text="Which is it?", images=problem.prompt.images * 50)
    page = make_run(tmp_path / "run", [Problem(prompt=many, answer="a", skill="s")])
    assert len(shown(page)) == 36 and "a picture that is not shown here" in page


def test_only_pictures_become_addresses():
    png = b"\x89PNG\r\n\x1a\n"
    assert source(Image(data=png)).startswith("data:image/png;base64,")
    assert source(Image(data=b"\xff\xd8\xff\xe0")).startswith("data:image/jpeg;")
    for data in (b"", b'"><script>alert(1)</script>', b"<svg/>", png + b"\0" * LARGEST):
        assert source(Image(data=data)) == ""
