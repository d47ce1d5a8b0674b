import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("stable_baselines3")


@pytest.fixture(scope="module")
def example():
    path = Path(__file__).parents[2] / "examples" / "ppo_teacher.py"
    spec = importlib.util.spec_from_file_location("ppo_teacher", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_prints_a_line_with_an_error_for_every_teacher(example, monkeypatch, capsys):
    monkeypatch.setattr(example, "EPISODE", 1)
    example.main(steps=4, seeds=2, rollout=4)
    printed = capsys.readouterr().out
    assert re.search(r"PPO trained for 4 steps, [\d,]+ an hour", printed)
    for name in ("ppo", "uniform", "random", "error-proportional"):
        assert re.search(rf"  {name} +[+-]0\.\d{{3}} ± 0\.\d{{3}}\n", printed)


def test_the_lots_are_drawn_alike_by_problems_rows_and_recognition(example):
    task = example.RiggedDrills()
    rows = [task.write(skill, 5, None, np.random.default_rng(0)) for skill in task.skills]
    for problem in [*task.problems("feedback", 5, 0), *(problem for some in rows for problem in some)]:
        assert task.recognise(problem.prompt).answer == problem.answer
        assert task.verify(problem, problem.answer).correct
        assert task.verify(problem, "nonsense").correct == (problem.skill in example.MASTERED)
    assert task.recognise(task.problems("feedback", 1, 0)[0].prompt.model_copy(update={"text": "what?"})) is None
