"""mastering-rate, skill-it, doraemon, alp-gmm, adarft: the properties that the catalogue lists."""

import json

import numpy as np
import pytest

from dataenv.agents import teachers
from dataenv.agents.adarft import AdaRFT, controlled
from dataenv.agents.alp_gmm import AlpGMM, fitted_mixture
from dataenv.agents.doraemon import widened
from dataenv.agents.formulas import divergence, entropy
from dataenv.agents.levels import cells_to_plan, third
from dataenv.agents.mastering_rate import attended
from dataenv.agents.prerequisites import checked, reachable
from dataenv.agents.skill_it import influence, weighted
from dataenv.chat.introduce import introduce
from dataenv.errors import InvalidData
from dataenv.records import Attempt, Budget, Feedback, Problem, SkillScore, Transition

CHAIN = np.eye(4, k=1, dtype=bool)
"""0 before 1 before 2 before 3."""


def feedback(k=1, step=0, rows=80, steps=40):
    return Feedback(
        step=step,
        skills=tuple(SkillScore(skill=f"s{i}", n=0, correct=0) for i in range(k)),
        budget=Budget(rows_left=10**6, rows_per_step=rows, steps_left=steps - step),
    )


# -- graphs -----------------------------------------------------------------------------------------------------------


def test_ancestors_are_found_over_any_number_of_edges():
    assert reachable(CHAIN).tolist() == np.triu(np.ones((4, 4), bool), 1).tolist()


@pytest.mark.parametrize("graph", [{"a": ("a",)}, {"a": ("b",), "b": ("c",), "c": ("a",)}])
@pytest.mark.parametrize("id", ["mastering-rate", "skill-it"])
def test_a_cycle_is_refused_when_the_teacher_is_made(id, graph):
    with pytest.raises(InvalidData, match=f"{id}: skill '.' builds on itself"):
        teachers.make(id, graph=graph)


def test_a_graph_that_is_none_is_refused_and_a_diamond_is_one():
    with pytest.raises(InvalidData, match="must map skills to lists"):
        teachers.make("skill-it", graph={"a": "b"})
    assert checked("x", {"d": ["b", "c"], "b": ["a"], "c": ["a"]})["d"] == ("b", "c")


def test_attention_is_on_what_can_be_learnt_by_now():
    first = attended(np.zeros((1, 4)), CHAIN)
    assert first.argmax() == 0 and first[0] / first.sum() > 0.7
    later = attended(np.array([[1.0, 0.2, 0.0, 0.0]] * 3), CHAIN)
    assert later.argmax() == 1
    assert attended(np.ones((3, 4)), CHAIN).sum() == pytest.approx(0)
    alone = attended(np.array([[0.0, 0.5, 0.9]]), np.zeros((3, 3), bool))
    assert (np.diff(alone) < 0).all()  # without edges, what is left to learn


def test_raising_a_loss_raises_the_shares_of_what_helps_there_and_of_nothing_else():
    a, losses = influence(CHAIN), np.full((1, 4), 0.5)
    assert np.allclose(weighted(losses, np.eye(4), 0.5), 0.25)
    base, more = weighted(losses, a, 0.5), weighted(losses + np.eye(4)[2] * 0.4, a, 0.5)
    ratio = more / base
    assert ratio[2] > ratio[1] > ratio[0] == pytest.approx(ratio[3])
    aims = np.array([False, False, True, False])
    assert weighted(losses, a, 5.0, aims).argmax() == 2


# -- doraemon ---------------------------------------------------------------------------------------------------------


def test_the_mix_is_the_widest_that_is_near_and_solved():
    draws = np.random.default_rng(0)
    for _ in range(5):
        old, p = draws.dirichlet(np.ones(5)), draws.uniform(0.1, 0.9, 5)
        if old @ p < 0.5:
            continue
        w = widened(old, p)
        others = draws.dirichlet(np.ones(5), 100_000)
        others = 0.8 * others * draws.uniform(size=(100_000, 1)) + old * 1.0
        others /= others.sum(axis=1, keepdims=True)
        near = (others * np.log(others / old)).sum(axis=1) <= 0.1
        allowed = others[near & (others @ p >= 0.5)]
        assert w @ p >= 0.5 - 2e-2 and divergence(w, old) <= 0.1 + 2e-2  # before the floor, exactly
        assert entropy(w) >= max(map(entropy, allowed)) - 1e-3


def test_out_of_reach_it_seeks_success_at_the_same_speed():
    old, p = np.array([0.1, 0.2, 0.7]), np.array([0.45, 0.2, 0.05])
    w = widened(old, p)
    assert w @ p > old @ p
    assert divergence(w, old) == pytest.approx(0.1, abs=1e-2)


def test_it_widens_to_all_levels_as_the_student_learns():
    levels, w = (np.arange(5) + 0.5) / 5, np.array([1 - 4e-3, *[1e-3] * 4])
    for theta in np.linspace(0.2, 2.0, 60):
        p = 1 / (1 + np.exp(-8 * (theta - levels)))
        before, w = w, widened(w, p)
        assert divergence(w, before) <= 0.1 + 2e-2
    assert entropy(w) == pytest.approx(np.log(5), abs=1e-2)


def test_cells_get_their_share_over_the_steps_where_a_skill_has_one_level_at_a_time():
    weights = np.array([[0.5, 0.2, 0.1], [0.05, 0.05, 0.1]])
    owed, total = np.zeros((2, 3)), np.zeros((2, 3))
    for _ in range(200):
        plan, owed = cells_to_plan(weights, [0.1, 0.5, 0.9], feedback(2, rows=10), owed, in_words=False)
        assert plan.rows == 10 and len({r.skill for r in plan.requests}) == len(plan.requests)
        for r in plan.requests:
            total[int(r.skill[1]), [0.1, 0.5, 0.9].index(r.difficulty)] += r.rows
    assert np.allclose(total / 2000, weights, atol=0.02)
    plan, _ = cells_to_plan(weights, [0.1, 0.5, 0.9], feedback(2, rows=100), 0 * owed, in_words=True)
    assert [r.rows for r in plan.requests] == [50, 20, 10, 5, 5, 10]


# -- alp-gmm, adarft: exercises of a student whose success depends on difficulty ---------------------------------------


class Levelled:
    """Exercises of one skill, of difficulties spread evenly, solved where `solves` says."""

    def __init__(self, solves, n=200):
        self.solves = solves
        self.bank = [Problem(prompt=f"p{i}", answer="x", skill="s0", difficulty=(i + 0.5) / n) for i in range(n)]

    def problems(self, per_skill, seed):
        return self.bank

    def tried(self, problems, **options):
        return [
            [Attempt(problem=p, response="", score=float(r), correct=r)]
            for p, r in zip(problems, (bool(self.solves(p.difficulty)) for p in problems), strict=True)
        ]


def test_the_third_that_is_nearest_is_of_neighbours():
    levels = np.array([0.9, 0.1, 0.5, 0.2, 0.6, 0.8])
    assert np.flatnonzero(third(levels, 0.0)).tolist() == [1, 3]
    assert np.flatnonzero(third(levels, 1.0)).tolist() == [0, 5]
    assert third(np.array([0.4]), 0.9).tolist() == [True]


def test_alp_gmm_asks_where_there_is_progress():
    pytest.importorskip("sklearn")
    teacher = AlpGMM()
    teacher.reset(0)
    learnt, drawn = 0.0, np.random.default_rng(1)

    def successes(arms):
        """Easier than the band all is solved, harder none; within it, more and more."""
        return [
            1.0 if d < 0.4 else 0.0 if d > 0.6 else min(learnt + drawn.normal(scale=0.02), 1.0)
            for _, d, _ in teacher.asked
        ]

    teacher._successes = successes
    inside = []
    for step in range(40):
        state = feedback(1, step)
        plan = teacher.act({"failures": ()}, {"feedback": state})
        assert plan.rows == 80
        levels = [request.difficulty for request in plan.requests]
        learnt = (learnt + 0.05 * sum(0.4 <= d <= 0.6 for d in levels)) % 1.0
        inside += [np.mean([0.35 <= d <= 0.65 for d in levels])] * (step >= 30)
        teacher.observe(Transition(None, plan, 0.0, None, False, False, {"feedback": feedback(1, step + 1)}))
    assert teacher.means and np.mean(inside) >= 0.55
    assert fitted_mixture(np.zeros((40, 3)), 8, 0) is None


def off_target(size, seed):
    """TOY-D: 50 answers a step, accuracy 1/(1+exp(-8(theta-d))), theta = 0.2 + 0.01 t; mean |R - 0.5| at the end."""
    level, off, draws = 0.0, [], np.random.default_rng(seed)
    for t in range(40):
        r = draws.binomial(50, 1 / (1 + np.exp(-8 * (0.2 + 0.01 * t - level)))) / 50
        off += [abs(r - 0.5)] * (t >= 20)
        level = controlled(level, r, step=size)
    return np.mean(off)


def test_the_controller_follows_the_student_and_one_of_large_steps_swings():
    calm, wild = ([off_target(size, seed) for seed in range(20)] for size in (0.2, 0.5))
    assert np.mean(calm) <= 0.10
    assert np.mean(wild) > 1.4 * np.mean(calm)


def test_adarft_sets_the_level_of_another_teachers_plan_and_waits_where_nothing_is_known():
    teacher = AdaRFT("error-proportional")
    teacher.take_exercises(Levelled(lambda d: d < 0.5))
    teacher.reset(0)
    levels = []
    for step in range(20):
        plan = teacher.act(None, {"feedback": feedback(1, step)})
        assert plan.rows == 80
        levels.append(plan.requests[0].difficulty)
    assert levels[0] == 0.0 and levels[1] == pytest.approx(0.2 * np.tanh(1))
    assert np.mean(levels[10:]) == pytest.approx(0.5, abs=0.1)
    blind = AdaRFT()
    blind.take_exercises(type("None", (Levelled,), {"tried": lambda self, problems, **o: []})(None))
    blind.reset(0)
    assert [blind.act(None, {"feedback": feedback(1, s)}).requests[0].difficulty for s in range(3)] == [0.0] * 3


def test_adarft_takes_no_base_whose_plans_have_no_level():
    with pytest.raises(InvalidData, match="acts in skill-tree only"):
        AdaRFT("tree-random")
    with pytest.raises(InvalidData, match="tries its own plans"):
        AdaRFT("oracle-greedy")
    assert AdaRFT("random-pool").environments == ("open-ended",)


def test_adarft_has_the_language_model_of_its_base(chat):
    teacher = AdaRFT("skill-list-llm")
    with pytest.raises(InvalidData, match="name one by --model"):
        introduce(None, teacher)
    client = chat(lambda question: {"reasoning": "r", "skills": [{"skill": "s0", "rows": 9, "difficulty": 0.9}]})
    assert introduce(client, teacher) == 1
    teacher.take_exercises(Levelled(lambda d: True))
    teacher.reset(0)
    (request,) = teacher.act(None, {"feedback": feedback(2)}).requests
    assert (request.skill, request.rows, request.difficulty) == ("s0", 9, 0.0)
    assert [said.reasoning for said in teacher.dialogue] == ["r"]
    json.dumps(teacher.state(), allow_nan=False)
