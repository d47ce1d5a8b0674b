import numpy as np
import pytest

from dataenv.engines.pool import Pool
from dataenv.engines.procedural import Procedural
from dataenv.errors import InvalidData
from dataenv.protocols import Engine
from dataenv.records import Problem, Request


def keys(rows):
    return [row.prompt.key for row in rows]


def test_draws_distinct_rows_of_the_pool_for_each_request(fakes):
    task = fakes.FixedToy(per_skill=20)
    pool = Pool(task)
    rows = pool.write([Request(skill="b", rows=5), Request(skill="a", rows=20)], np.random.default_rng(0))
    assert [len(part) for part in rows] == [5, 20]
    assert {row.skill for row in rows[0]} == {"b"}
    assert set(keys(rows[1])) == {p.prompt.key for p in task.problems("pool", None, 0) if p.skill == "a"}
    assert all(task.verify(row.as_problem(), row.completion).correct for part in rows for row in part)
    assert isinstance(pool, Engine)


def test_taught_rows_do_not_come_again_and_the_end_is_the_end(fakes):
    pool, taught = Pool(fakes.FixedToy(per_skill=20)), set()
    for expected in (15, 5, 0):
        (rows,) = pool.write([Request(skill="a", rows=15)], np.random.default_rng(0), taught)
        assert len(rows) == expected
        assert not taught & set(keys(rows))
        taught |= set(keys(rows))


def test_the_draw_is_random_by_the_given_generator(fakes):
    pool = Pool(fakes.FixedToy(per_skill=20))

    def drawn(seed):
        return keys(pool.write([Request(skill="a", rows=5)], np.random.default_rng(seed))[0])

    assert drawn(1) == drawn(1) != drawn(2)


def test_with_a_difficulty_the_nearest_come_first(fakes):
    task = fakes.FixedToy(per_skill=1)
    levels = [None, 0.0, 0.1, 0.45, 0.9, 1.0]
    task.problems = lambda split, per_skill, seed: [
        Problem(prompt=f"a {i}", answer=f"a:{i}", skill="a", difficulty=d) for i, d in enumerate(levels)
    ]
    pool = Pool(task)

    def drawn(wanted, n):
        return {
            row.difficulty
            for row in pool.write([Request(skill="a", rows=n, difficulty=wanted)], np.random.default_rng(0))[0]
        }

    assert drawn(0.0, 2) == {0.0, 0.1}
    assert drawn(1.0, 2) == {0.9, 1.0}
    assert drawn(0.5, 2) == {None, 0.45}  # unknown counts as the middle
    assert drawn(0.0, 99) == set(levels)


def test_only_the_pool_split_is_read_and_an_endless_task_gives_a_finite_one(fakes):
    task = fakes.Toy()
    pool = Pool(task, per_skill=30)
    assert task.asked == []  # the constructor opens nothing
    (rows,) = pool.write([Request(skill="a", rows=1000)], np.random.default_rng(0))
    assert len(rows) == 30
    assert task.asked == [("pool", 30, 0)]
    assert Pool(task).per_skill is not None
    assert Pool(fakes.FixedToy()).per_skill is None


def test_a_task_that_cannot_write_is_refused_by_the_procedural_engine(fakes):
    with pytest.raises(InvalidData, match="'fixed-toy' cannot write problems; use engine 'pool'"):
        Procedural(fakes.FixedToy())


def test_the_procedural_engine_passes_skill_rows_and_difficulty_on(fakes):
    rows = Procedural(fakes.Toy()).write(
        [Request(skill="c", rows=3, difficulty=0.7), Request(skill="a", rows=2)], np.random.default_rng(0)
    )
    assert [(row.skill, row.difficulty) for part in rows for row in part] == [("c", 0.7)] * 3 + [("a", None)] * 2


def test_a_task_whose_pool_holds_other_skills_is_named(fakes):
    task = fakes.FixedToy(per_skill=20)
    task.skills = ("a",)
    task.problems = lambda split, per_skill, seed: [Problem(prompt="p", answer="x", skill="b")]
    with pytest.raises(InvalidData, match=r"problems\(\) of task 'fixed-toy' .* skill 'b', which is not in its skills"):
        Pool(task).write([Request(skill="a", rows=1)], np.random.default_rng(0))
