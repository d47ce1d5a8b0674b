"""Rows that leak out of the examinations: the gate keeps them from the student."""

import numpy as np
import pytest

from dataenv.engines import engines
from dataenv.envs.skill_list import SkillListEnv
from dataenv.errors import InvalidData
from dataenv.records import Plan, Request
from dataenv.tasks import tasks
from dataenv.tasks.splits import split_of


def test_its_share_of_rows_is_out_of_the_feedback_split():
    task = tasks.make("drills:addition,copying")
    engine = engines.make("leaky-engine:0.5", task=task)
    rows = engine.write(
        [Request(skill="addition", rows=60), Request(skill="copying", rows=60)], np.random.default_rng(0)
    )
    leaked = [row for few in rows for row in few if row.provenance.get("leaked")]
    assert 0.35 < len(leaked) / 120 < 0.65
    assert all(split_of(row.prompt) == "feedback" for row in leaked)
    assert all(row.skill == request for few, request in zip(rows, ("addition", "copying"), strict=True) for row in few)


def test_the_gate_drops_what_leaked(fakes):
    task = fakes.Toy()
    env = SkillListEnv(task=task, student=fakes.Scripted(), engine="leaky-engine:1.0", rows=12, steps=1, feedback=4)
    env.reset(seed=0)
    *_, info = env.step(env.action(Plan(requests=(Request(skill="a", rows=12),))))
    assert info["rows"]["accepted"] == 0 and info["rows"]["dropped"]["contaminated"] >= 12


@pytest.mark.parametrize("share", [-0.1, 1.1, "much"])
def test_impossible_shares_are_refused(share):
    with pytest.raises(InvalidData, match="share"):
        engines.make(f"leaky-engine:{share}", task=tasks.make("drills"))
