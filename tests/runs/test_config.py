"""What a run refuses before anything is loaded."""

import pytest

from dataenv.agents import teachers
from dataenv.errors import InvalidData
from dataenv.runs.config import RunConfig


@pytest.mark.parametrize(
    ("teacher", "env", "where"),
    [
        ("tree-threshold", "skill-list", "skill-tree"),
        ("tree-random", "open-ended", "skill-tree"),
        ("rows-like-failures", "skill-list", "open-ended"),
        ("rows-like-failures", "dataenv/SkillTree-v0", "open-ended"),
    ],
)
def test_a_teacher_that_cannot_act_in_the_environment_is_refused(teacher, env, where):
    with pytest.raises(InvalidData, match=f"Teacher '{teacher}' cannot act in '{env}'; give --env {where}"):
        RunConfig(teacher=teacher, env=env).build_teacher()


@pytest.mark.parametrize("env", ["skill-tree", "dataenv/SkillTree-v0"])
@pytest.mark.parametrize("teacher", ["tree-threshold", "uniform"])
def test_others_are_built(teacher, env):
    assert RunConfig(teacher=teacher, env=env).build_teacher().name == teacher


def test_a_teacher_without_its_methods_is_refused_by_name(monkeypatch):
    class Bare:
        name = "bare"

        def act(self, observation, info):
            return None

    monkeypatch.setattr(teachers, "make", lambda *_, **__: Bare())
    with pytest.raises(InvalidData, match="this Bare has no '"):
        RunConfig(teacher="bare").build_teacher()
