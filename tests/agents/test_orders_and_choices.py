"""Controls that follow the clock, and teachers that choose problems: the properties that the catalogue lists."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from dataenv.agents import teachers
from dataenv.agents.dart import DartVanilla, prop2diff
from dataenv.agents.pool import KMeansIter, RandomPool, cluster_shares
from dataenv.agents.tapir import hard_share, parted
from dataenv.errors import InvalidData
from dataenv.exercises import Exercises
from dataenv.records import Budget, Feedback, Problem, SkillScore


def feedback(k=3, step=0, rows=60, steps=6):
    return Feedback(
        step=step,
        skills=tuple(SkillScore(skill=f"s{i}", n=0, correct=0) for i in range(k)),
        budget=Budget(rows_left=10**6, rows_per_step=rows, steps_left=steps - step),
    )


def plans(id, steps=6, k=3, rows=60, observation=None, **options):
    teacher = teachers.make(id, **options)
    teacher.reset(0)
    return [teacher.act(observation, {"feedback": feedback(k, step, rows, steps)}) for step in range(steps)]


def levels(id, **options):
    found = [{request.difficulty for request in plan.requests} for plan in plans(id, **options)]
    assert all(len(levels) == 1 for levels in found)
    return [level for (level,) in found]


def test_ramps_are_monotone_hit_both_ends_and_mirror_each_other():
    up, down = levels("easy-to-hard"), levels("hard-to-easy")
    assert up[0] == 0.1 and up[-1] == pytest.approx(0.9) and up == sorted(up)
    assert down == pytest.approx(up[::-1])
    assert levels("easy-to-hard", steps=1) == levels("hard-to-easy", steps=1) == [0.5]
    assert levels("easy-to-hard", power=2.0)[3] < up[3]


def test_constant_levels_are_constant():
    assert levels("easy-only") == [0.15] * 6
    assert levels("hard-only") == [0.85] * 6
    assert levels("hard-only", difficulty=1.0) == [1.0] * 6


@pytest.mark.parametrize(("k", "steps", "rows"), [(3, 6, 60), (3, 3, 9), (5, 2, 10), (4, 7, 21)])
def test_blocked_and_interleaved_spend_all_rows_and_every_skill_has_its_turn(k, steps, rows):
    for id in ("blocked", "interleaved"):
        asked = Counter()
        for plan in plans(id, steps=steps, k=k, rows=rows):
            assert plan.rows == rows
            asked.update({request.skill: request.rows for request in plan.requests})
        assert len(asked) == k
        if steps % k == 0:
            assert max(asked.values()) - min(asked.values()) <= 1


def test_blocks_follow_each_other_in_the_order_of_the_skills():
    first = [plan.requests[0].skill for plan in plans("blocked")]
    assert first == ["s0", "s0", "s1", "s1", "s2", "s2"]
    assert levels("blocked-curriculum") == pytest.approx([0.1, 0.9] * 3)


def test_interleaved_rows_never_share_a_skill_with_the_next_one():
    order = [r.skill for plan in plans("interleaved", observation={"failures": ()}, rows=7) for r in plan.requests]
    assert len(order) == 42 and all(a != b for a, b in pairwise(order))
    assert levels("interleaved-curriculum")[::5] == pytest.approx([0.1, 0.9])


def test_cyclical_goes_round_and_its_levels_lie_in_the_share_in_use():
    teacher = teachers.make("cyclical")
    teacher.reset(0)
    sizes = []
    for step in range(9):
        sizes.append(teacher.size)
        plan = teacher.act({"failures": ()}, {"feedback": feedback(2, step, 80, 20)})
        assert plan.rows == 80
        assert max(request.difficulty for request in plan.requests) == pytest.approx(sizes[-1] * 7 / 8)
    assert sizes == [0.25, 0.5, 1, 0.5, 0.25, 0.5, 1, 0.5, 0.25]
    assert [plan.rows for plan in plans("cyclical", budget="paper", rows=80)] == [20, 40, 80, 40, 20, 40]
    with pytest.raises(InvalidData, match="cyclical: budget"):
        teachers.make("cyclical:half")


# -- the pool ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def chooser(fakes):
    def made(kind, per_skill=40, student=None, **options):
        teacher = kind(**options)
        teacher.take_exercises(Exercises(fakes.FixedToy(("a", "b"), per_skill=per_skill), student or fakes.Scripted()))
        teacher.reset(0)
        return teacher

    return made


def test_random_pool_repeats_nothing_before_all_was_used(chooser):
    teacher = chooser(RandomPool)
    rounds = [[i for _ in range(4) for i in teacher.choose(20)] for _ in range(2)]
    assert all(sorted(found) == list(range(80)) for found in rounds)
    assert rounds[0] != rounds[1]
    assert len(set(teacher.choose(80))) == 80


@pytest.mark.parametrize("clusters", [4, 0])
def test_kmeans_iter_repeats_nothing_and_begins_with_all_clusters_alike(clusters, chooser):
    pytest.importorskip("sklearn")
    teacher = chooser(KMeansIter, clusters=clusters)
    first = teacher.choose(40)
    counts = np.bincount(teacher.labels[first], minlength=teacher.labels.max() + 1)
    assert len(counts) == (clusters or 2)
    assert len(set(first)) == 40
    seen = set(first)
    more = teacher.choose(30)
    assert not seen & set(more) and len(set(more)) == 30
    assert len(teacher.choose(30)) == 10  # all that is left


def test_kmeans_iter_goes_where_the_student_fails(chooser, fakes):
    teacher = chooser(KMeansIter, clusters=0, student=fakes.Scripted({"a": 0.0, "b": 1.0}))
    teacher.choose(20)
    second = teacher.choose(20)
    assert np.mean([teacher.pool[i].skill == "a" for i in second]) > 0.8
    assert cluster_shares(np.array([0.9, 0.5, 0.1]), [1, 1, 1]) == pytest.approx([0.80, 0.16, 0.03], abs=0.01)
    assert cluster_shares(np.array([0.4, 0.0, 0.4]), [5, 0, 5]) == pytest.approx([1 / 3] * 3)


# -- dart, tapir ------------------------------------------------------------------------------------------------------


def test_rows_are_in_proportion_to_the_fail_rate():
    d = np.array([1, 0.5, 0.25, 0])
    assert prop2diff(d, 8).tolist() == [8, 4, 2, 0]
    assert prop2diff(d, 8, least=1).tolist() == [8, 4, 2, 1]
    assert len(set(prop2diff(np.zeros(3), 8))) == 1
    assert np.corrcoef(d, DartVanilla().weights(d))[0, 1] < 0 < np.corrcoef(d, prop2diff(d, 8))[0, 1]


def test_tapir_turns_to_hard_problems_round_by_round():
    assert [hard_share(step) for step in range(5)] == pytest.approx([0.3, 0.5, 0.7, 0.9, 1.0])
    known = [(wrong, Problem(prompt=f"{wrong}", answer="x")) for wrong in (0.0, 0.5, 0.25, 1.0)]
    hard, rest = parted(known)
    assert [p.prompt.text for p in hard] == ["1.0", "0.5"] and len(rest) == 2
    hard, rest = parted(known[::2])
    assert [p.prompt.text for p in hard] == ["0.25"]


def test_tapir_is_balanced_over_the_skills_and_asks_for_harder_ones_where_all_is_solved(fakes):
    teacher = teachers.make("tapir", items=10)
    task, student = fakes.Toy(("s0", "s1", "s2")), fakes.Scripted({"s0": 0.0, "s1": 0.5, "s2": 1.0})
    teacher.take_exercises(Exercises(task, student))
    teacher.reset(0)
    for step in range(5):
        plan = teacher.act({"failures": ()}, {"feedback": feedback(3, step, 50)})
        rows = Counter()
        for request in plan.requests:
            rows[request.skill] += request.rows
        assert plan.rows == 50 and max(rows.values()) - min(rows.values()) <= 2  # what rounding owes
        assert all(r.exemplar is None for r in plan.requests if r.skill == "s2")
        failed = [r.rows for r in plan.requests if r.skill == "s1" and not student_solves(student, r.exemplar)]
        assert abs(sum(failed) - hard_share(step) * rows["s1"]) <= 1


def student_solves(student, problem):
    return student.answer([problem.prompt], max_new_tokens=8)[0][0].text == problem.answer
