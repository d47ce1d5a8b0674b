import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataenv.agents import teachers
from dataenv.agents.tree import Alternating, FillBalanced, RandomTree, Threshold, Wish, fitted
from dataenv.envs.skill_tree import SkillTreeEnv
from dataenv.envs.wrappers import HideFeedback
from dataenv.errors import InvalidData
from dataenv.protocols import Teacher
from dataenv.records import Request, Transition
from dataenv.spaces import EXPLOIT, EXPLORE, WAIT

IDS = ["tree-alternating", "tree-fill-balanced", "tree-random", "tree-threshold"]
FEW = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)


class Endless:
    """An organiser that never runs out of names."""

    name = "endless"

    def propose(self, skill, known, n, rng):
        return [f"{skill}{len(known) + i}" for i in range(n)]

    def request(self, skill, subskill, rows):
        return Request(skill=skill, subskill=subskill, rows=rows)


@pytest.fixture
def play(fakes):
    """An episode: the actions, the infos and the environment."""

    def play(teacher, skills="abc", student=None, seed=3, wrap=None, **options):
        env = SkillTreeEnv(
            fakes.Toy(skills), student or fakes.Scripted(), **{"organiser": Endless(), "feedback": 8, **options}
        )
        seen = env if wrap is None else wrap(env)
        teacher.reset(seed)
        observation, info = seen.reset(seed=0)
        actions, infos, over = [], [info], False
        while not over:
            mask = {name: array.copy() for name, array in info["action_mask"].items()}
            action = teacher.act(observation, info)
            for i, move in enumerate(action["move"]):
                assert mask["move"][i, move], "a masked move"
            after, reward, terminated, truncated, info = seen.step(action)
            teacher.observe(Transition(observation, action, reward, after, terminated, truncated, info))
            observation, over = after, terminated or truncated
            actions.append(action)
            infos.append(info)
        return actions, infos, env

    return play


def moves(actions, skill=0):
    return "".join("WEX"[action["move"][skill]] for action in actions)


@pytest.mark.parametrize("id", IDS)
def test_it_keeps_the_protocol(id):
    teacher = teachers.make(id)
    assert isinstance(teacher, Teacher)
    assert teacher.name == id
    with pytest.raises(InvalidData, match=id):
        teachers.make(id, new=0)


@pytest.mark.parametrize("id", IDS)
@given(
    rows=st.integers(1, 80),
    skills=st.sampled_from(["a", "ab", "abcdefg"]),
    limits=st.fixed_dictionaries(
        {},
        optional={
            "max_rows_per_skill": st.integers(1, 60),
            "max_rows_per_subskill": st.integers(1, 12),
            "max_rows": st.integers(1, 150),
            "max_subskills": st.integers(1, 6),
            "max_new": st.integers(1, 3),
            "organiser": st.just("procedural"),
        },
    ),
)
@FEW
def test_it_finishes_any_episode_without_a_masked_move_or_a_clipped_plan(play, id, rows, skills, limits):
    actions, infos, env = play(teachers.make(id), skills, rows=rows, steps=5, probes=1, **limits)
    assert len(actions) == 5 or len(env.situation.taught) == env.max_rows
    for info in infos[1:]:
        assert not info["rows"]["clipped"]
        assert info["rows"]["shortfall"] == {}


@pytest.mark.parametrize("id", IDS)
def test_the_first_move_of_every_skill_is_to_explore(play, id):
    actions, *_ = play(teachers.make(id), steps=1, rows=200)
    assert actions[0]["move"].tolist() == [EXPLORE] * 3


@pytest.mark.parametrize("id", IDS)
def test_only_the_random_one_draws(play, id):
    def told(seed):
        return [json.dumps({k: v.tolist() for k, v in a.items()}) for a in play(teachers.make(id), seed=seed)[0]]

    assert told(1) == told(1)
    assert (told(1) == told(2)) == (id != "tree-random")


@pytest.mark.parametrize("id", IDS)
def test_a_killed_teacher_goes_on_the_same(play, fakes, id):
    class Restored:
        """Another teacher in each step, which knows only the state of the one before."""

        def __init__(self):
            self.now = teachers.make(id)
            self.reset = self.now.reset

        def act(self, observation, info):
            state = json.loads(json.dumps(self.now.state()))
            self.now = teachers.make(id)
            self.now.restore(state)
            return self.now.act(observation, info)

        def observe(self, transition):
            self.now.observe(transition)

    whole, stopped = play(teachers.make(id), steps=6)[0], play(Restored(), steps=6)[0]
    assert all(np.array_equal(a[name], b[name]) for a, b in zip(whole, stopped, strict=True) for name in a)


@pytest.mark.parametrize("id", IDS)
def test_it_can_act_without_feedback(play, id):
    play(teachers.make(id), wrap=HideFeedback, steps=4)


def test_alternating_explores_and_exploits_in_turn_with_equal_quotas(play):
    actions, infos, _ = play(Alternating(new=2, rows=6), steps=8, rows=500, max_subskills=8)
    assert moves(actions) == "EXEXEXEX"
    sizes = [len(info["forest"].trees[0].subskills) for info in infos]
    assert sizes == [0, 2, 2, 4, 4, 6, 6, 8, 8]
    assert {s.quota for tree in infos[-1]["forest"].trees for s in tree.subskills} == {6}
    full, *_ = play(Alternating(new=2, rows=6), steps=6, rows=500, max_subskills=4)
    assert moves(full) == "EXEXXX"
    capped, infos, _ = play(Alternating(new=2, rows=6), steps=6, rows=500, max_rows_per_skill=30)
    assert moves(capped) == "EXEWWW"
    assert infos[-1]["feedback"].taught == {"a": 30, "b": 30, "c": 30}


def test_fill_balanced_grows_the_tree_and_ends_with_equal_leaves(play):
    actions, infos, _ = play(FillBalanced(new=3, rows=5, target=40), steps=9, rows=300, max_subskills=7)
    assert moves(actions).startswith("EEEX")
    for tree in infos[-1]["forest"].trees:
        assert [s.taught for s in tree.subskills] == [40] * 7
    assert moves(actions).endswith("W")  # all are full
    _, infos, _ = play(FillBalanced(new=2, rows=5, target=8), "a", steps=12, rows=100, max_subskills=6)
    assert [s.taught for s in infos[-1]["forest"].trees[0].subskills] == [8] * 6
    with pytest.raises(InvalidData, match="target"):
        FillBalanced(rows=10, target=5)


def test_random_changes_one_quota_by_ten_rows_or_explores(play):
    actions, infos, _ = play(RandomTree(), steps=40, rows=5000, max_subskills=40)
    seen = set()
    for action, before, after in zip(actions, infos, infos[1:], strict=False):
        for i in range(3):
            old = [s.quota for s in before["forest"].trees[i].subskills]
            new = [s.quota for s in after["forest"].trees[i].subskills]
            if action["move"][i] == EXPLORE:
                assert new[: len(old)] == old
                assert 1 <= len(new) - len(old) <= 3
                assert len({*new[len(old) :]}) == 1
                assert 1 <= new[-1] <= 10
            else:
                assert len(old) == len(new)
                changed = [(a, b) for a, b in zip(old, new, strict=True) if a != b]
                assert len(changed) <= 1
                assert all(b in (a + 10, max(a - 10, 0)) for a, b in changed)
            assert sum(q > 0 for q in new) <= 10
            seen.add(int(action["move"][i]))
    assert seen == {EXPLORE, EXPLOIT}


def told(gain, accuracies=((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)), examined=4):
    """A transition in which skill a gained `gain`; its subskills' accuracies before and after."""
    before, after = ({"subskill_accuracy": np.array([a]), "subskill_examined": np.array([[examined] * 3])}
                     for a in accuracies)  # fmt: skip
    skill = type("Score", (), {"skill": "a"})
    info = {"feedback": type("Feedback", (), {"skills": (skill,)}), "skill_gain": {} if gain is None else {"a": gain}}
    return Transition(before, None, gain, after, False, False, info)


def seen(quota=(10, 10, 10), explore=True, rows=1000):
    n = len(quota)
    mask = {
        "move": np.array([[1, int(explore), 1]]), "grow": np.array([5]), "rows": np.array([rows]),
        "change": np.ones((1, n), np.int8), "quota": np.array([quota]), "left": np.array([1000]),
    }  # fmt: skip
    budget = type("Budget", (), {"rows_now": rows})
    info = {"action_mask": mask, "feedback": type("Feedback", (), {"step": 1, "budget": budget})}
    return {"subskill_taught": np.zeros((1, n), np.int64)}, info


@pytest.mark.parametrize(
    ("gain", "expected"), [(0.0100001, EXPLOIT), (0.01, EXPLORE), (0.0, EXPLORE), (-1.0, EXPLORE), (None, EXPLORE)]
)
def test_threshold_flips_exactly_at_its_threshold(gain, expected):
    teacher = Threshold()
    teacher.reset(0)
    teacher.observe(told(gain))
    action = teacher.act(*seen())
    assert action["move"].tolist() == [expected]
    if expected == EXPLORE:
        assert (action["grow"][0], action["rows"][0]) == (5, 10)


def test_threshold_gives_more_to_the_subskill_whose_accuracy_rose_most():
    teacher = Threshold()
    teacher.reset(0)
    teacher.observe(told(0.5, ((0.5, 0.25, 0.0), (0.75, 0.75, 0.25))))
    assert teacher.act(*seen())["change"].tolist() == [[0, 10, 0]]
    teacher.observe(told(0.5, ((0.5, 0.25, 0.0), (0.75, 0.75, 0.25)), examined=0))
    assert teacher.act(*seen())["change"].tolist() == [[10, 0, 0]]
    teacher.observe(told(0.0))
    action = teacher.act(*seen(explore=False))
    assert action["move"].tolist() == [EXPLOIT]
    assert not action["change"].any()


@st.composite
def wishes_and_limits(draw):
    k, m = draw(st.integers(1, 5)), 4
    numbers = st.integers(0, 12)
    wishes, mask = {}, {
        "change": np.zeros((k, m), np.int8), "quota": np.zeros((k, m), np.int64),
        "left": np.array([draw(st.integers(1, 40)) for _ in range(k)]), "rows": np.full(k, draw(st.integers(1, 12))),
    }  # fmt: skip
    for i in range(k):
        n = draw(st.integers(0, m))
        mask["change"][i, :n] = 1
        mask["quota"][i, :n] = [min(draw(numbers), mask["rows"][i]) for _ in range(n)]
        kind = draw(st.sampled_from([WAIT, EXPLORE, EXPLOIT] if n else [WAIT, EXPLORE]))
        if kind == EXPLORE:
            wishes[i] = Wish(mask["quota"][i, :n], draw(st.integers(1, 5)), draw(numbers) + 1)
        elif kind == EXPLOIT:
            wishes[i] = Wish(np.array([draw(numbers) for _ in range(n)]))
    return wishes, mask, draw(st.integers(0, 60))


@given(wishes_and_limits())
@settings(deadline=None)
def test_wishes_are_fitted_into_the_rows_there_are(drawn):
    wishes, mask, rows = drawn
    action = fitted(wishes, mask, rows)
    total = 0
    for i in range(len(mask["left"])):
        if i not in wishes:
            assert action["move"][i] == WAIT
            continue
        quota = mask["quota"][i] + action["change"][i]
        assert (quota >= 0).all()
        assert (quota <= mask["rows"][i]).all()
        assert not action["change"][i][mask["change"][i] == 0].any()
        asked = quota.sum()
        if action["move"][i] == EXPLORE:
            assert not action["change"][i].any()
            assert 1 <= action["grow"][i] <= wishes[i].grow
            assert 0 <= action["rows"][i] <= min(wishes[i].rows, mask["rows"][i])
            asked += action["grow"][i] * action["rows"][i]
        total += min(asked, mask["left"][i])
    assert total <= rows


def test_what_fits_is_done_as_wished():
    mask = {
        "change": np.array([[1, 1, 0], [1, 0, 0]]), "quota": np.array([[4, 4, 0], [5, 0, 0]]),
        "left": np.array([100, 100]), "rows": np.array([50, 50]),
    }  # fmt: skip
    wishes = {0: Wish(np.array([4, 4]), 1, 6), 1: Wish(np.array([9]))}
    action = fitted(wishes, mask, 23)
    assert action["move"].tolist() == [EXPLORE, EXPLOIT]
    assert (action["grow"][0], action["rows"][0], action["change"][1, 0]) == (1, 6, 4)
    scaled = fitted(wishes, mask, 18)  # 8 are kept; 10 are dealt in proportion 6 : 9
    assert (scaled["rows"][0], scaled["change"][1, 0]) == (4, 1)
    assert fitted(wishes, mask, 8)["rows"][0] == 0  # grown without rows
    assert fitted(wishes, mask, 7)["move"].tolist() == [EXPLOIT, EXPLOIT]  # the kept quotas alone are too much
