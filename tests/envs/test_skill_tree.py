import copy
import json
import pickle

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env, data_equivalence
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataenv.agents import teachers
from dataenv.envs.skill_tree import SkillTreeEnv
from dataenv.envs.tree_moves import TreeMoves
from dataenv.errors import InvalidAction, InvalidData
from dataenv.records import Example, Plan, Problem, Reply, Request, TeachReport
from dataenv.runs.config import RunConfig
from dataenv.runs.episode import resume, start
from dataenv.skills.tree import Forest
from dataenv.spaces import EXPLOIT, EXPLORE, WAIT
from dataenv.tasks import tasks
from dataenv.tasks.drills import SKILLS

NO_FRESH_FIXTURE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
NAN = float("nan")


class Named:
    """An organiser with `n` subskills per skill, proposed in order; it notes what it was asked."""

    name = "named"

    def __init__(self, n=99):
        self.n, self.asked = n, []

    def propose(self, skill, known, n, rng):
        self.asked.append((skill, tuple(known), n))
        return [name for i in range(self.n) if (name := f"{skill}{i}") not in known][:n]

    def request(self, skill, subskill, rows):
        return Request(skill=skill, subskill=subskill, rows=rows, difficulty=0.5)


@pytest.fixture
def make(fakes):
    def make(task=None, student=None, **options):
        options = {"rows": 20, "feedback": 8, "organiser": Named(), "max_subskills": 4, **options}
        env = SkillTreeEnv(task or fakes.Toy(), student or fakes.Scripted(), **options)
        env.reset(seed=0)
        return env

    return make


def move(env, **moves):
    """The action with these moves by skill: (EXPLORE, grow, rows) or (EXPLOIT, change, ...); others wait."""
    action = env.moves.waiting()
    for skill, (kind, *numbers) in moves.items():
        i = env.task.skills.index(skill)
        action["move"][i] = kind
        if kind == EXPLORE:
            action["grow"][i], action["rows"][i] = numbers
        else:
            action["change"][i, : len(numbers)] = numbers
    return action


def quotas(env):
    return {tree.skill: [s.quota for s in tree.subskills] for tree in env.forest.trees}


# -- what the moves do ------------------------------------------------------------------------------------------------


def test_explore_exploit_wait_prune_and_revive(make):
    env = make()
    observation, _, _, _, info = env.step(move(env, a=(EXPLORE, 2, 3), b=(EXPLORE, 1, 4)))
    assert observation in env.observation_space
    assert quotas(env) == {"a": [3, 3], "b": [4], "c": []}
    assert info["rows"]["taught"] == {"a": 6, "b": 4}
    assert {(e.skill, e.subskill) for e in env.situation.taught} == {("a", "a0"), ("a", "a1"), ("b", "b0")}
    assert all(e.difficulty == 0.5 for e in env.situation.taught)

    observation, _, _, _, info = env.step(move(env, a=(EXPLOIT, 2, -1)))  # b waits: its quota stays
    assert quotas(env) == {"a": [5, 2], "b": [4], "c": []}
    assert info["rows"]["taught"] == {"a": 7}
    assert observation["subskill_taught"].tolist() == [[8, 5, 0, 0], [4, 0, 0, 0], [0] * 4]
    assert observation["taught"].tolist() == [13, 4, 0]

    env.step(move(env, a=(EXPLOIT, -20, 0)))  # far below zero is zero
    assert quotas(env)["a"] == [0, 2]
    observation, _, _, _, info = env.step(move(env, a=(EXPLORE, 1, 1)))  # a pruned subskill stays in the list
    assert quotas(env)["a"] == [0, 2, 1]
    assert info["rows"]["taught"] == {"a": 3}
    assert observation["exists"].tolist() == [[1, 1, 1, 0], [1, 0, 0, 0], [0] * 4]
    env.step(move(env, a=(EXPLOIT, 6, 0, 0)))
    assert quotas(env)["a"] == [6, 2, 1]
    assert info["skill_gain"].keys() == {"a", "b", "c"}


def test_a_quota_never_rises_above_its_cap(make):
    env = make(max_rows_per_subskill=5)
    env.step(move(env, a=(EXPLORE, 2, 5)))
    env.step(move(env, a=(EXPLOIT, 5, -2)))
    assert quotas(env)["a"] == [5, 3]


def test_the_caps_of_rows_per_skill_are_exact(make):
    env = make(max_rows_per_skill=25)
    env.step(move(env, a=(EXPLORE, 2, 10)))
    _, _, _, _, info = env.step(move(env, a=(EXPLOIT, 0, -3), b=(EXPLORE, 1, 15)))
    assert info["rows"]["taught"] == {"a": 5, "b": 15}  # the five that are left, dealt in proportion to 10 : 7
    assert sorted(s.taught for s in env.forest.trees[0].subskills) == [12, 13]
    assert info["action_mask"]["move"].tolist() == [[1, 0, 0], [1, 1, 1], [1, 1, 0]]
    assert info["action_mask"]["left"].tolist() == [0, 10, 25]
    with pytest.raises(
        InvalidAction, match=r"action\['move'\]\[0\]: 'a' cannot exploit now; it has had all its 25 row"
    ):
        env.step(move(env, a=(EXPLOIT, 0, 0)))


def test_an_organiser_that_runs_out_ends_exploring(make):
    organiser = Named(3)
    env = make(organiser=organiser)
    _, _, _, _, info = env.step(move(env, a=(EXPLORE, 2, 1), b=(EXPLORE, 3, 1)))
    assert organiser.asked == [("a", (), 3), ("b", (), 4)]  # one more than wanted, once
    assert [tree.complete for tree in env.forest.trees] == [False, True, False]
    assert info["action_mask"]["move"][:, EXPLORE].tolist() == [1, 0, 1]
    _, _, _, _, info = env.step(move(env, a=(EXPLORE, 2, 1)))
    assert env.forest.trees[0].names == ("a0", "a1", "a2")
    assert info["rows"]["asked"] == info["rows"]["accepted"] == 3
    with pytest.raises(InvalidAction, match=r"'a' cannot explore now; it has 3 subskills and can get no more"):
        env.step(move(env, a=(EXPLORE, 1, 1)))


def test_a_step_in_which_all_wait_teaches_nothing_and_counts(make):
    env = make()
    env.step(move(env, a=(EXPLORE, 1, 5)))
    version, calls = env.student.version, len(env.student.calls)
    _, reward, _, _, info = env.step(env.moves.waiting())
    assert (reward, info["rows"]["asked"], env.situation.step) == (0.0, 0, 2)
    assert env.student.version == version
    assert len(env.student.calls) == calls  # nobody was asked anything


# -- probes -----------------------------------------------------------------------------------------------------------


def test_probes_are_held_out_and_tell_the_accuracy(make, fakes):
    env = make(student=fakes.Scripted(prior={"a": 1.0}), probes=3)
    observation, _, _, _, info = env.step(move(env, a=(EXPLORE, 2, 4), b=(EXPLORE, 1, 5)))
    probes = [p for tree in env.forest.trees for s in tree.subskills for p in s.probes]
    assert len({p.prompt.key for p in probes}) == 9
    assert {p.subskill for p in probes} == {"a0", "a1", "b0"}
    for _ in range(4):
        env.step(move(env, a=(EXPLOIT, 1), b=(EXPLOIT, 0)))
    assert not {e.prompt.key for e in env.situation.taught} & {p.prompt.key for p in probes}
    feedback = {a.problem.prompt.key for a in env.situation.examination.attempts}
    assert not feedback & {p.prompt.key for p in probes}
    assert observation["subskill_accuracy"][0].tolist() == [1.0, 1.0, 0.5, 0.5]
    assert observation["subskill_examined"].tolist() == [[3, 3, 0, 0], [3, 0, 0, 0], [0] * 4]
    assert info["forest"].held_out == {p.prompt.key for p in probes}
    for tree in env.forest.trees:
        for s in tree.subskills:
            judged = [env.student.answer([p.prompt], max_new_tokens=8)[0][0].text == p.answer for p in s.probes]
            assert s.correct == sum(judged)


def test_an_unchanged_student_is_asked_new_probes_only(make, fakes):
    class Counting(fakes.Scripted):
        prompts = 0

        def answer(self, prompts, **options):
            self.prompts += len(prompts)
            return super().answer(prompts, **options)

    env = make(student=Counting(), probes=3)

    def asked(action):
        before = env.student.prompts
        env.step(action)
        return env.student.prompts - before

    assert asked(move(env, a=(EXPLORE, 2, 0))) == 6  # no rows: grown, examined, not taught
    assert env.situation.taught == ()
    assert asked(move(env, a=(EXPLORE, 1, 0))) == 3
    assert asked(move(env, a=(EXPLOIT, 0))) == 0
    assert asked(move(env, a=(EXPLOIT, 5))) == 24 + 9


def test_without_probes_no_accuracy_is_claimed(make):
    env = make(probes=0)
    observation, *_, info = env.step(move(env, a=(EXPLORE, 2, 4)))
    assert observation["subskill_accuracy"].tolist() == [[0.5] * 4] * 3
    assert not observation["subskill_examined"].any()
    assert info["forest"].held_out == frozenset()


# -- tasks ------------------------------------------------------------------------------------------------------------


def test_one_skill_and_a_skill_without_feedback_problems(make, fakes):
    env = make(fakes.Toy(["a"]))
    observation, *_ = env.step(move(env, a=(EXPLORE, 4, 5)))
    assert observation in env.observation_space
    env = make(fakes.Toy(unexamined=["b"]))
    observation, _, _, _, info = env.step(move(env, b=(EXPLORE, 1, 5)))
    assert observation in env.observation_space
    assert observation["examined"].tolist() == [8, 0, 8]
    assert set(info["skill_gain"]) == {"a", "c"}
    assert info["rows"]["taught"] == {"b": 5}


def test_a_fixed_data_set_has_levels_of_difficulty(make, fakes):
    env = make(fakes.FixedToy(per_skill=20), organiser="procedural", probes=2)
    observation, _, _, _, info = env.step(move(env, a=(EXPLORE, 3, 4), b=(EXPLORE, 1, 2)))
    assert info["rows"]["accepted"] == 14
    assert observation["subskill_examined"][:, 0].tolist() == [2, 2]
    _, _, _, _, info = env.step(move(env, a=(EXPLOIT, 6, 6, -4)))  # the pool has 20 - 12 - 6 left
    assert info["rows"]["shortfall"] == {"a": 18}


def test_the_tasks_own_subskills_reach_the_rows(make):
    env = SkillTreeEnv("drills:copying,addition", _Silent(), rows=40, feedback=2)
    env.reset(seed=1)
    env.step(move(env, copying=(EXPLORE, 4, 5)))
    for row in env.situation.taught:
        assert SKILLS["copying"].within(row.subskill, row.prompt.text)
    assert len({row.subskill for row in env.situation.taught}) == 4


class _Silent:
    """A student that says and learns nothing."""

    name, shots, version = "silent", 0, "0"

    def teach(self, examples, *, seed):
        return TeachReport(len(examples), 0, None)

    def answer(self, prompts, **options):
        return [[Reply("")] for _ in prompts]

    def clone_state(self):
        return None

    def reset(self):
        pass

    restore_state = save = load = close = lambda *_: None


# -- what is refused --------------------------------------------------------------------------------------------------


def grown(make, **options):
    """Skill a has two subskills, b all four, c none."""
    env = make(steps=10**6, max_rows=10**6, **options)
    env.step(move(env, a=(EXPLORE, 2, 3), b=(EXPLORE, 4, 2)))
    return env


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"move": None}, r"action\['move'\] holds object values"),
        ({"move": [1, 2]}, r"action\['move'\] has shape \(2,\); it must be \(3,\)"),
        ({"move": [0, 0, 3]}, r"action\['move'\]\[2\] is 3; it must be a whole number in \[0, 2\]"),
        ({"move": [0, 0, 0.5]}, r"action\['move'\]\[2\] is 0.5"),
        ({"move": [0, NAN, 0]}, r"action\['move'\]\[1\] is nan"),
        ({"move": [False, True, False]}, r"action\['move'\] holds bool"),
        ({"move": ["0", "1", "0"]}, r"action\['move'\] holds"),
        ({"move": [[0], 0, 0]}, r"action\['move'\] is not an array"),
        ({"grow": [0, -1, 0]}, r"action\['grow'\]\[1\] is -1"),
        ({"grow": [0, 6, 0]}, r"action\['grow'\]\[1\] is 6; it must be a whole number in \[0, 5\]"),
        ({"rows": [0, 21, 0]}, r"action\['rows'\]\[1\] is 21; it must be a whole number in \[0, 20\]"),
        ({"change": np.full((3, 4), -21)}, r"action\['change'\]\[0, 0\] is -21"),
        ({"change": np.zeros((4, 3))}, r"action\['change'\] has shape \(4, 3\); it must be \(3, 4\)"),
        ({"move": [0, 1, 0], "grow": [0, 1, 0]}, r"action\['move'\]\[1\]: 'b' cannot explore now; it has 4 subskills"),
        ({"move": [0, 0, 2]}, r"action\['move'\]\[2\]: 'c' cannot exploit now; it has no subskills yet: explore first"),
        ({"move": [1, 0, 0], "grow": [3, 0, 0]}, r"action\['grow'\]\[0\] is 3; 'a' can grow 1 to 2 subskills now"),
        ({"move": [1, 0, 0]}, r"action\['grow'\]\[0\] is 0; 'a' can grow 1 to 2"),
        (
            {"move": [2, 0, 0], "change": [[0, 0, 1, 0], [0] * 4, [0] * 4]},
            r"action\['change'\]\[0, 2\]: 'a' has no such subskill",
        ),
        (
            {"move": [2, 2, 1], "grow": [0, 0, 1], "rows": [0, 0, 7]},
            "action asks for 21 rows, .* step has at most 20",
        ),
        ({"move": [2, 0, 0], "change": [[20, 1, 0, 0], [0] * 4, [0] * 4]}, "action asks for 24 rows"),
        ({"extra": 1}, r"action is a dict with move, grow, rows and change; got \['change', 'extra'"),
    ],
)
def test_an_action_outside_is_refused_by_its_part_and_changes_nothing(make, change, words):
    env = grown(make)
    before, calls = env.situation, len(env.student.calls)
    action = {**env.moves.waiting(), **change}
    assert action not in env.action_space
    with pytest.raises(InvalidAction, match=words):
        env.step(action)
    assert env.situation is before
    assert len(env.student.calls) == calls
    env.step(env.action_space.sample())


@pytest.mark.parametrize("action", [None, 3, [], {}, "wait"])
def test_what_is_no_action_is_refused(make, action):
    env = make()
    assert action not in env.action_space
    with pytest.raises(InvalidAction, match="action is a dict with move, grow, rows and change"):
        env.step(action)


def test_entries_that_a_move_does_not_use_are_ignored(make):
    env = grown(make)
    action = {"move": [WAIT, EXPLOIT, EXPLORE], "grow": [5, 5, 1], "rows": [20, 20, 1]}
    action["change"] = np.array([[20] * 4, [0] * 4, [-20] * 4])
    before = quotas(env)
    assert action in env.action_space
    env.step(action)
    assert quotas(env) == {**before, "c": [1]}


def test_a_step_that_fails_leaves_the_forest(make):
    env = grown(make)
    before, limits = env.situation, env.moves.limits
    env.student.break_in["teach"] = RuntimeError("out of memory")
    with pytest.raises(RuntimeError):
        env.step(move(env, a=(EXPLORE, 2, 3)))
    assert env.situation is before
    assert env.moves.limits is limits
    env.student.break_in.clear()
    env.step(move(env, a=(EXPLORE, 2, 3)))
    assert quotas(env)["a"] == [3, 3, 3, 3]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_subskills": 0}, "max_subskills"),
        ({"max_new": 1.5}, "max_new"),
        ({"max_rows_per_subskill": 0}, "max_rows_per_subskill"),
        ({"max_rows_per_skill": -1}, "max_rows_per_skill"),
        ({"probes": -1}, "probes"),
    ],
)
def test_settings_are_checked(fakes, options, words):
    with pytest.raises(InvalidData, match=words):
        SkillTreeEnv(fakes.Toy(), fakes.Scripted(), **options)


# -- the space --------------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 2**32 - 1), options=st.sampled_from([{}, {"max_rows_per_skill": 30}, {"rows": 2}]))
@NO_FRESH_FIXTURE
def test_any_sampled_action_is_carried_out_and_costs_at_most_a_step(make, seed, options):
    env = make(organiser="procedural", steps=4, max_rows_per_subskill=7, probes=1, **{"max_rows": 10**6, **options})
    env.action_space.seed(seed)
    for _ in range(4):
        action = env.action_space.sample()
        assert action in env.action_space
        observation, reward, _, _, info = env.step(action)
        assert observation in env.observation_space
        assert info["rows"]["asked"] <= env.rows
        assert type(reward) is float
        assert all(0 <= q <= min(7, env.rows) for tree in quotas(env).values() for q in tree)
        assert max(observation["taught"]) <= env.max_rows_per_skill
        assert env.plan(env.moves.waiting()) == Plan()


@given(seed=st.integers(0, 2**32 - 1), forbidden=st.lists(st.integers(0, 2), min_size=3, max_size=3))
@NO_FRESH_FIXTURE
def test_sampling_with_a_mask_goes_by_the_mask(make, seed, forbidden):
    env = grown(make)
    _, info = env.resume(env.situation)
    mask = info["action_mask"]
    assert all(np.array_equal(mask[name], env.action_space.limits[name]) for name in env.action_space.limits)
    stale = TreeMoves(env.task.skills, 4, 5, 20, 20, 10**6, seed)
    action = stale.sample(mask=mask)
    assert action in env.action_space
    mask["move"][range(3), forbidden] = 0
    drawn = stale.sample(mask=mask)["move"]
    for i, possible in enumerate(mask["move"]):
        assert possible[drawn[i]] or drawn[i] == WAIT


def test_seeding_the_space_goes_back_to_the_start_of_an_episode(make):
    env = grown(make)
    env.action_space.seed(0)
    action = env.action_space.sample()
    env.reset(seed=1)
    assert action in env.action_space
    env.step(action)


def test_the_space_can_be_copied_pickled_compared_and_written(make):
    space = grown(make).action_space
    space.seed(7)
    for copied in (copy.deepcopy, lambda space: pickle.loads(pickle.dumps(space))):
        again = copied(space)
        assert again == space
        assert data_equivalence(again.sample(), space.sample())
    samples = [space.sample() for _ in range(3)]
    assert data_equivalence(space.from_jsonable(json.loads(json.dumps(space.to_jsonable(samples)))), samples)
    fresh = make().action_space
    assert fresh != grown(make).action_space  # other actions are possible
    assert fresh != TreeMoves(("a", "b"), 4, 5, 20, 20, 200)
    assert fresh != 3
    assert "3 skills" in repr(fresh)


def test_gymnasium_finds_nothing_to_complain_of(registered, recwarn):
    env = gym.make("dataenv/SkillTree-v0", task="toy", student="scripted", rows=20, feedback=4)
    check_env(env.unwrapped)
    assert [str(w.message) for w in recwarn] == []


@pytest.mark.parametrize("mode", ["sync", "vector_entry_point"])
def test_vectors_of_environments_sample_with_their_masks(registered, mode):
    options = {"task": "toy", "student": "scripted", "rows": 20, "feedback": 4}
    env = gym.make_vec("dataenv/SkillTree-v0", num_envs=2, vectorization_mode=mode, **options)
    observation, info = env.reset(seed=0)
    for _ in range(6):
        masks = [{k: v[i] for k, v in info["action_mask"].items() if not k.startswith("_")} for i in range(2)]
        action = env.action_space.sample(mask=tuple(masks))
        observation, *_, info = env.step(action)
        assert observation in env.observation_space
    env.close()


# -- plans ------------------------------------------------------------------------------------------------------------


@given(data=st.data())
@NO_FRESH_FIXTURE
def test_a_plan_of_existing_subskills_is_said_exactly(make, data):
    env = grown(make)
    leaves = [("a", "a0"), ("a", "a1"), *(("b", f"b{i}") for i in range(4))]
    rows = data.draw(st.lists(st.integers(0, 3), min_size=6, max_size=6))
    plan = Plan(requests=[Request(skill=s, subskill=u, rows=n) for (s, u), n in zip(leaves, rows, strict=True)])
    action = env.action(plan)
    assert action in env.action_space
    assert {(r.skill, r.subskill): r.rows for r in env.plan(action).requests} == {
        leaf: n for leaf, n in zip(leaves, rows, strict=True) if n
    }


def test_a_plan_by_skill_explores_first_and_then_deals_to_the_subskills(make):
    env = grown(make)
    plan = Plan(requests=[Request(skill="a", rows=5), Request(skill="b", rows=7), Request(skill="c", rows=8)])
    action = env.action(plan)
    assert action["move"].tolist() == [EXPLOIT, EXPLOIT, EXPLORE]
    assert (action["grow"][2], action["rows"][2]) == (4, 2)
    env.step(action)
    assert quotas(env) == {"a": [3, 2], "b": [2, 2, 2, 1], "c": [2, 2, 2, 2]}
    env.step(env.action(plan))
    assert [s.taught for s in env.forest.trees[0].subskills] == [8, 8]  # the odd row goes to the least taught
    mixed = Plan(requests=[Request(skill="a", rows=4), Request(skill="a", rows=3, subskill="a1")])
    env.step(env.action(mixed))
    assert quotas(env)["a"] == [2, 5]
    assert env.action(Plan()) in env.action_space


@given(rows=st.lists(st.integers(0, 30), min_size=3, max_size=3), cap=st.sampled_from([None, 4, 12]))
@NO_FRESH_FIXTURE
def test_a_plan_by_skill_stays_within_caps_and_its_rows(make, rows, cap):
    env = make(max_rows_per_subskill=cap, max_rows_per_skill=cap, rows=90)
    plan = Plan(requests=[Request(skill=s, rows=n, difficulty=0.3) for s, n in zip("abc", rows, strict=True)])
    for _ in range(3):
        action = env.action(plan)
        assert action in env.action_space
        *_, info = env.step(action)
        assert info["rows"]["asked"] <= plan.rows
    if cap is None:
        assert info["rows"]["asked"] == plan.rows
    else:
        assert all(sum(s.taught for s in tree.subskills) <= cap for tree in env.forest.trees)


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (Plan(examples=[Example(prompt="q", completion="c")]), r"plan\.examples"),
        (Plan(requests=[Request(skill="a", rows=1), Request(skill="zz", rows=1)]), r"plan\.requests\[1\]\.skill: 'zz'"),
        (Plan(requests=[Request(skill="a", rows=1, instruction="please")]), r"plan\.requests\[0\]"),
        (Plan(requests=[Request(skill="a", rows=1, exemplar=Problem(prompt="q", answer="a"))]), r"plan\.requests\[0\]"),
        (Plan(requests=[Request(skill="a", rows=1, subskill="a9")]), r"requests\[0\]\.subskill: 'a' has no subskill"),
        (Plan(requests=[Request(skill="c", rows=1, subskill="x")]), "'c' has no subskill 'x'; explore first"),
    ],
)
def test_plans_it_cannot_say_are_refused_by_field(make, plan, words):
    env = grown(make)
    with pytest.raises(InvalidAction, match=words):
        env.action(plan)


# -- situations -------------------------------------------------------------------------------------------------------


def trajectory(env, seed, steps=5):
    env.action_space.seed(seed)
    env.reset(seed=seed)
    seen = []
    for _ in range(steps):
        observation, reward, *_, info = env.step(env.action_space.sample())
        seen.append((observation, reward, info["forest"].model_dump_json(), env.student.version))
    return seen


def test_equal_seeds_give_equal_trajectories(make):
    env = make(organiser="procedural")
    first = trajectory(env, 5)
    assert data_equivalence(first, trajectory(make(organiser="procedural"), 5), exact=True)
    assert data_equivalence(first, trajectory(env, 5), exact=True)
    assert not data_equivalence(first, trajectory(env, 6), exact=True)


def test_fork_two_plans_restore_and_repeat_the_first(make):
    env = grown(make, organiser="procedural")
    here = env.clone_state()
    before = env.resume(env.situation)
    left, right = move(env, a=(EXPLORE, 2, 2), b=(EXPLOIT, -2, 1)), move(env, a=(EXPLOIT, 5, 5), c=(EXPLORE, 1, 3))

    def outcome(action):
        env.restore_state(here)
        observation, reward, *_, info = env.step(action)
        return observation, reward, info["forest"], env.student.version, env.situation

    first, second = outcome(left), outcome(right)
    again = outcome(left)
    assert data_equivalence(first[0], again[0], exact=True)
    assert first[1:] == again[1:]
    assert second[4] != first[4]
    env.restore_state(here)
    assert data_equivalence(env.resume(env.situation)[0], before[0], exact=True)
    assert env.action_space.limits["move"].tolist() == before[1]["action_mask"]["move"].tolist()


def test_words_go_with_the_requests_of_the_skills_that_move(make):
    env = make()
    action = {**move(env, a=(EXPLORE, 2, 3), b=(EXPLORE, 1, 4)), "words": ["say a", "", "say c"]}
    assert action in env.action_space
    assert env.action_space.from_jsonable(json.loads(json.dumps(env.action_space.to_jsonable([action]))))[0] in (
        env.action_space
    )
    *_, info = env.step(action)
    assert [(r.skill, r.instruction) for r in info["plan"].requests] == [("a", "say a"), ("a", "say a"), ("b", "")]


def test_words_stand_below_the_organisers_instruction(make):
    class Speaking(Named):
        def request(self, skill, subskill, rows):
            return super().request(skill, subskill, rows).model_copy(update={"instruction": "about it"})

    env = make(organiser=Speaking())
    *_, info = env.step({**move(env, a=(EXPLORE, 1, 1), b=(EXPLORE, 1, 1)), "words": ["errors", "", ""]})
    assert [r.instruction for r in info["plan"].requests] == ["about it\n\nerrors", "about it"]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("abc", "must be a list of 3 texts"),
        (["a", "b"], "must be a list of 3 texts"),
        (["", "", 7], r"\['words'\]\[2\] is a int"),
        (["", "x" * 5000, ""], r"\['words'\]\[1\] has 5,000"),
        (["\0", "", ""], r"\['words'\]\[0\] holds the control character"),
        ({"a": "b"}, "must be a list"),
    ],
)
def test_words_that_are_none_are_refused(make, words, why):
    env = make()
    action = {**move(env, a=(EXPLORE, 1, 1)), "words": words}
    assert action not in env.action_space
    with pytest.raises(InvalidAction, match=why):
        env.step(action)


def test_observations_and_masks_are_copies(make):
    env = grown(make)
    action = env.moves.waiting()
    observation, *_, info = env.step(action)
    for arrays in (observation, info["action_mask"]):
        for array in arrays.values():
            array[...] = 0
    again, more = env.resume(env.situation)
    assert again["exists"].any()
    assert more["action_mask"]["move"].any()
    assert env.action_space.limits["move"].any()


def test_a_forest_read_back_is_the_same(make):
    env = grown(make)
    assert env.read_structure(env.forest.model_dump_json().encode()) == env.forest
    assert isinstance(env.first_structure(), Forest)


@pytest.mark.parametrize("teacher", ["tree-threshold", "tree-random", "uniform"])
def test_a_run_that_was_stopped_ends_as_it_would_have_ended(registered, tmp_path, monkeypatch, teacher):
    class WithExam:
        def problems(self, split, per_skill, seed):
            return self._problems("selection" if split == "exam" else split, per_skill, seed)

    toy = tasks._entries["toy"].target
    monkeypatch.setattr(toy, "_problems", toy.problems, raising=False)
    monkeypatch.setattr(toy, "problems", WithExam.problems)
    plan = {"task": "toy", "student": "scripted", "teacher": teacher, "steps": 4, "rows": 30, "feedback": 4, "exam": 4}
    config = RunConfig(env="skill-tree", **plan)
    whole = start(config, tmp_path / "whole")
    made = teachers.make(teacher)
    observe, calls = type(made).observe, []

    def stop(self, transition):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return observe(self, transition)

    monkeypatch.setattr(type(made), "observe", stop)
    with pytest.raises(KeyboardInterrupt):
        start(config, tmp_path / "stopped")
    assert (tmp_path / "stopped/steps/002/structure.json").exists()
    again = resume(tmp_path / "stopped")
    assert again["hash"] == whole["hash"]
    for file in ("structure.json", "rows.jsonl"):
        stopped, ended = ((tmp_path / run / "steps/004" / file).read_bytes() for run in ("stopped", "whole"))
        assert stopped == ended
    assert json.loads(ended.splitlines()[0])["provenance"]["teacher"] == teacher
