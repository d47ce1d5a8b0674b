"""A benchmark that scores groups, from its files to the exam's record."""

import json

from dataenv.records import Problem, Prompt, Reply, Verdict
from dataenv.registry import Entry
from dataenv.runs.config import RunConfig
from dataenv.runs.episode import start
from dataenv.runs.report import write_report
from dataenv.students import students
from dataenv.tasks import tasks
from dataenv.tasks.fixed import FixedTask
from dataenv.tasks.scene_picture import Figure, draw


class Pairs(FixedTask):
    """Two questions on each of 400 pictures."""

    name = "pairs"
    skills = ("even", "odd")
    published = frozenset({"exam"})
    max_new_tokens = 4

    def load(self):
        for number in range(400):
            picture = draw([Figure("square", "red", 5, 2 + number % 60, 2 + number // 60)])
            for text in ("left?", "right?"):
                prompt = Prompt(text=text, images=(picture,))
                data = {"group": number, "group_size": 2}
                problem = Problem(prompt=prompt, answer="yes", skill=self.skills[number % 2], data=data)
                yield problem, "exam" if number < 50 else None

    def verify(self, problem, response):
        right = response == problem.answer
        return Verdict(float(right), right)


def test_the_exam_names_the_group_score_beside_the_accuracy(fakes, monkeypatch, tmp_path):
    class Seer(fakes.Scripted):
        def answer(self, prompts, *, samples=1, **options):
            return [[Reply("yes" if self.rows or prompt.text == "left?" else "no")] * samples for prompt in prompts]

    monkeypatch.setitem(tasks._entries, "pairs", Entry(Pairs))
    monkeypatch.setitem(students._entries, "seer", Entry(Seer))
    config = RunConfig(env="skill-list", task="pairs", student="seer", teacher="uniform", steps=1, rows=10, exam=None)
    start(config, tmp_path / "run")
    events = map(json.loads, (tmp_path / "run/events.jsonl").read_text().splitlines())
    exam = next(event for event in events if event["event"] == "exam")
    assert exam["before"]["accuracy"] == 0.5 and exam["after"]["accuracy"] == 1.0
    assert exam["group_score"] == {"n": 50, "before": 0.0, "after": 1.0}
    assert "data:image/png;base64," in write_report(tmp_path / "run").read_text()
