"""Which rows are taught again."""

import numpy as np
import pytest

from dataenv.envs.replay import recency, schedules
from dataenv.errors import InvalidData
from dataenv.records import Example


def rows(*skills):
    return [Example(prompt=f"{skill} {i}", completion="x", skill=skill) for i, skill in enumerate(skills)]


def test_the_chance_decays_as_a_power_of_the_time_since_practice():
    assert np.allclose(recency([1, 2, 4, 8]), [0.533, 0.267, 0.133, 0.067], atol=1e-3)
    assert np.allclose(recency([1, 2, 4, 8], -1), [0.067, 0.133, 0.267, 0.533], atol=1e-3)
    assert np.allclose(recency([0, 1]), 0.5)


@pytest.mark.parametrize("id", ["uniform", "powerlaw-replay", "powerlaw-replay:-1"])
def test_as_many_different_rows_as_wanted_and_no_more_than_there_are(id):
    taught, steps = rows(*"aaabbc"), [1, 1, 1, 2, 2, 3]
    for n in range(1, 7):
        chosen = schedules.make(id)(taught, steps, 4, n, np.random.default_rng(n))
        assert len(chosen) == len(set(chosen)) == n
        assert set(chosen) <= set(range(6))


def test_skills_practised_lately_come_more_often_however_many_rows_they_have():
    taught, steps = rows(*"a" * 90, *"b" * 10), [1] * 90 + [8] * 10
    drawn = np.random.default_rng(0)
    late = [schedules.make("powerlaw-replay")(taught, steps, 9, 1, drawn)[0] >= 90 for _ in range(400)]
    early = [schedules.make("powerlaw-replay:-1")(taught, steps, 9, 1, drawn)[0] >= 90 for _ in range(400)]
    assert abs(np.mean(late) - 8 / 9) < 0.06
    assert abs(np.mean(early) - 1 / 9) < 0.06


def test_an_environment_takes_a_schedule_by_id_or_as_it_is(fakes):
    seen = []

    def first(taught, steps, now, n, rng):
        seen.append((len(taught), list(steps), now, n))
        return list(range(n))

    student = fakes.Scripted()
    env = fakes.make_env(student=student, rehearsal=first, replay=0.5)
    env.reset(seed=0)
    env.step(fakes.deal(env, 4))
    env.step(fakes.deal(env, 0, 6))
    assert seen == [(4, [1] * 4, 2, 3)]
    assert student.lessons[-1][0][-3:] == list(env.situation.taught[:3])
    assert fakes.make_env(rehearsal="powerlaw-replay:2").rehearsal.power == 2
    with pytest.raises(InvalidData, match="power"):
        fakes.make_env(rehearsal="powerlaw-replay:often")
