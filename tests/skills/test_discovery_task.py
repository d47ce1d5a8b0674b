"""A task under discovered skills is a task like any other."""

import copy
from collections import Counter

import gymnasium
import numpy as np
import pytest

import dataenv.skills.discovered as module
from dataenv.engines.pool import Pool
from dataenv.errors import UnknownId
from dataenv.protocols import ProceduralTask, Task
from dataenv.records import Plan, Prompt, Request
from dataenv.skills import discoveries
from dataenv.skills.discovered import Discovered, discovered, sample
from dataenv.skills.discovery import freeze, thaw
from dataenv.tasks import tasks
from dataenv.tasks.splits import SHARES, split_of

SPLITS = ("exemplar", "feedback", "selection", "pool")


class By:
    """A discovery by a rule of the test's own."""

    name = "by"

    def __init__(self, rule):
        self.rule, self.skills, self.fits = rule, (), 0

    def fit(self, problems):
        self.fits += 1
        assert all(split_of(problem.prompt) == "feedback" for problem in problems)
        self.skills = tuple(sorted(set(self.skills_of(problems))))

    def skills_of(self, problems):
        return [self.rule(problem) for problem in problems]

    def state(self):
        return list(self.skills)

    def restore(self, state):
        self.skills = tuple(state)


def number(problem):
    return int(problem.prompt.text.split()[1])


def merged(problem):
    """Gold a and b are one skill, c is its own."""
    return "ab" if problem.prompt.text[0] in "ab" else "c only"


def parity(problem):
    return "odd" if number(problem) % 2 else "even"


@pytest.fixture(params=["procedural", "fixed"])
def inner(request, fakes):
    return fakes.Toy() if request.param == "procedural" else fakes.FixedToy(("a", "b", "c"))


@pytest.mark.parametrize("spec", ["cluster", "cluster:2"])
def test_it_follows_the_protocol_of_the_task_inside(inner, spec):
    task = discovered(inner, spec)
    assert isinstance(task, Task)
    assert isinstance(task, ProceduralTask) == isinstance(inner, ProceduralTask)
    assert len(task.skills) == (3 if spec == "cluster" else 2) and spec in task.name and inner.name in task.name
    assert (task.default_engine, task.max_new_tokens) == (inner.default_engine, inner.max_new_tokens)
    assert set(task.held_out()) == set(inner.held_out()) and dict(task.prerequisites) == {}


def test_gold_leaves_the_task_as_it_is(inner):
    assert discovered(inner, None) is inner and discovered(inner, "gold") is inner


@pytest.mark.parametrize("rule", [merged, parity])
def test_problems_are_up_to_so_many_of_each_discovered_skill(inner, rule):
    task = discovered(inner, By(rule))
    for split in SPLITS:
        found = task.problems(split, 6, 3)
        skills = [problem.skill for problem in found]
        assert Counter(skills) == dict.fromkeys(task.skills, 6) and skills == sorted(skills)
        assert skills == [rule(problem) for problem in found]
        assert len({problem.prompt.key for problem in found}) == len(found)
        assert [p.id for p in found] == [p.id for p in task.problems(split, 6, 3)]
        if split != "feedback":
            assert task.problems(split, 0, 3) == []
    assert [p.id for p in task.problems("pool", 6, 3)] != [p.id for p in task.problems("pool", 6, 4)]


def test_merged_skills_hold_all_their_gold_skills(inner):
    found = discovered(inner, By(merged)).problems("pool", 12, 0)
    assert {p.prompt.text[0] for p in found if p.skill == "ab"} == {"a", "b"}


def test_splits_stay_disjoint(inner):
    task, seen = discovered(inner, By(parity)), {}
    for seed in (0, 1):
        for split in SPLITS:
            for problem in task.problems(split, 5, seed):
                assert seen.setdefault(problem.prompt.key, split) == split == split_of(problem.prompt)


def test_only_feedback_problems_are_read_and_always_the_same(fakes):
    toy = fakes.Toy()
    discovered(toy, "cluster")
    first, toy.asked[:] = list(toy.asked), []
    discovered(toy, "cluster")
    assert toy.asked == first and {split for split, _, _ in first} == {"feedback"}


def test_a_fitted_discovery_is_used_as_it_is(inner):
    by = By(merged)
    by.skills = ("ab", "c only")
    assert discovered(inner, by).skills == ("ab", "c only") and by.fits == 0
    fitted = discoveries.make("cluster")
    fitted.fit(sample(inner))
    frozen = freeze(fitted)
    again = discovered(inner, thaw(frozen))
    assert [(p.id, p.skill) for p in again.problems("pool", 5, 1)] == [
        (p.id, p.skill) for p in discovered(inner, "cluster").problems("pool", 5, 1)
    ]
    assert freeze(again.discovery) == frozen


def test_ids_and_verdicts_do_not_depend_on_the_label(inner):
    task = discovered(inner, By(merged))
    for problem in task.problems("feedback", 4, 0):
        known = task.recognise(problem.prompt)
        assert known.id == problem.id and known.skill == problem.skill == merged(problem)
        gold = inner.recognise(problem.prompt)
        assert gold.id == problem.id and gold.skill == problem.prompt.text[0]
        for response in (problem.answer, "?"):
            assert task.verify(problem, response) == inner.verify(gold, response)
    assert task.recognise(Prompt(text="What is love?")) is None


@pytest.mark.parametrize("spec", ["drills", "arithmetic"])
def test_no_verifier_reads_the_label(spec):
    task = tasks.make(spec)
    for problem in task.problems("feedback", 2, 0):
        relabelled = problem.model_copy(update={"skill": "x"})
        for response in (problem.answer, "1"):
            assert task.verify(problem, response) == task.verify(relabelled, response)
        assert relabelled.id == problem.id


def test_written_rows_keep_the_proportions_and_the_skill(fakes):
    task = discovered(fakes.Toy(), By(merged))
    rows = task.write("ab", 21, 0.5, np.random.default_rng(0))
    assert len(rows) == 21 == len({row.prompt.key for row in rows})
    counts = Counter(row.prompt.text[0] for row in rows)
    assert set(counts) == {"a", "b"} and abs(counts["a"] - counts["b"]) == 1
    assert {row.skill for row in rows} == {"ab"} and {row.difficulty for row in rows} == {0.5}
    assert all(split_of(row.prompt) == "pool" for row in rows)
    assert [row.id for row in rows] == [row.id for row in task.write("ab", 21, 0.5, np.random.default_rng(0))]
    assert task.write("ab", 0, None, np.random.default_rng(0)) == []


def test_only_rows_that_map_to_the_skill_are_kept(fakes):
    task = discovered(fakes.Toy(), By(parity))
    rows = task.write("odd", 30, None, np.random.default_rng(0))
    assert len(rows) == 30 and all(number(row) % 2 for row in rows)
    kin, counts = task.composition["odd"], Counter(row.prompt.text[0] for row in rows)
    assert set(kin) == {"a", "b", "c"}
    assert all(abs(counts[gold] - 30 * kin[gold] / kin.total()) < 1.5 for gold in kin)


def test_writing_gives_up_where_nothing_maps_to_the_skill(fakes):
    class Counted(fakes.Toy):
        calls = 0

        def write(self, skill, n, difficulty, rng):
            Counted.calls += 1
            assert n <= 8 * 30
            return super().write(skill, n, difficulty, rng)

    by = By(lambda p: "a" if p.difficulty is None and p.prompt.text[0] == "a" else "rest")
    task = discovered(Counted(), by)
    assert task.write("a", 30, 1.0, np.random.default_rng(0)) == [] and Counted.calls <= module.TRIES
    assert len(task.write("a", 30, None, np.random.default_rng(1))) == 30


def test_a_rare_skill_comes_in_smaller_numbers(fakes):
    task = discovered(fakes.Toy(), By(lambda p: "rare" if number(p) % 40 == 0 else "common"))
    found = Counter(p.skill for p in task.problems("pool", 20, 0))
    assert found["common"] == 20 and 0 < found["rare"] < 20
    assert 0 < len(task.write("rare", 60, None, np.random.default_rng(0))) <= 60


def test_unknown_skills_name_the_nearest(fakes):
    with pytest.raises(UnknownId, match="toy by by has no skill 'c onyl'; did you mean 'c only'"):
        discovered(fakes.Toy(), By(merged)).write("c onyl", 1, None, np.random.default_rng(0))


def test_problems_of_no_known_skill_are_in_no_split(inner):
    by = By(lambda p: "other" if split_of(p.prompt) == "selection" and number(p) % 2 else "known")
    task = discovered(inner, by)
    assert task.skills == ("known",)
    assert {p.skill for p in task.problems("selection", 8, 0)} == {"known"}


def test_other_is_a_skill_where_feedback_problems_are_of_it(inner):
    by = By(lambda p: "other" if p.prompt.text[0] == "c" else "known")
    by.skills = ("known",)
    task = discovered(inner, by)
    assert task.skills == ("known", "other") and {p.skill for p in task.problems("pool", 3, 0)} == set(task.skills)


def test_what_is_remembered_is_bounded_and_changes_nothing(fakes, monkeypatch):
    plain = discovered(fakes.Toy(), "cluster")
    monkeypatch.setattr(module, "REMEMBERED", 7)
    task = discovered(fakes.Toy(), "cluster")
    for seed in range(3):
        assert task.problems("feedback", 5, seed) == plain.problems("feedback", 5, seed)
        assert len(task._remembered) <= 7


def test_the_pool_engine_works(inner):
    task = discovered(inner, By(merged))
    engine = Pool(task, per_skill=None if isinstance(task, ProceduralTask) else 15)
    requests = [Request(skill="ab", rows=9), Request(skill="c only", rows=5)]
    rows = engine.write(requests, np.random.default_rng(0))
    assert [len(some) for some in rows] == [9, 5]
    assert {row.skill for row in rows[0]} == {"ab"} and {row.skill for row in rows[1]} == {"c only"}


def test_data_without_end_under_no_limit_says_so():
    task = discovered(tasks.make("drills:addition,copying"), "cluster")
    with pytest.raises(Exception, match="per_skill"):
        task.problems("pool", None, 0)


@pytest.mark.parametrize("engine", [None, "pool"])
def test_an_episode_under_discovered_skills(inner, fakes, engine):
    task = discovered(inner, By(merged))
    student = fakes.Scripted(prior={})
    env = fakes.make_env(task, student, engine=engine, rows=12)
    observation, info = env.reset(seed=1)
    assert env.observation_space.contains(observation) and observation["accuracy"].shape == (2,)
    assert [score.skill for score in info["feedback"].skills] == ["ab", "c only"]
    _, _, _, _, info = env.step(fakes.deal(env, 8, 4))
    assert info["rows"]["accepted"] == 12 and info["rows"]["taught"] == {"ab": 8, "c only": 4}
    assert not info["rows"]["dropped"] and info["feedback"].taught == {"ab": 8, "c only": 4}
    plan = env.plan(env.action(Plan(requests=(Request(skill="ab", rows=3),))))
    assert [request.skill for request in plan.requests] == ["ab"]


def test_equal_seeds_equal_trajectories(fakes):
    def walk():
        env = fakes.make_env(discovered(fakes.Toy(), "cluster"), fakes.Scripted(prior={}))
        env.reset(seed=5)
        for _ in range(2):
            env.step(fakes.deal(env, 5, 5, 5))
        return [(row.id, row.skill) for row in env.situation.taught]

    assert walk() == walk()


def test_a_registered_environment_takes_one(fakes):
    task = discovered(tasks.make("drills:addition,copying,maximum"), "cluster")
    env = gymnasium.make("dataenv/SkillList-v0", task=task, student=fakes.Scripted(prior={}), rows=30, feedback=4)
    env.reset(seed=0)
    _, _, _, _, info = env.step({"rows": np.array([10, 10, 10]), "difficulty": np.full(3, -1.0)})
    assert info["rows"]["accepted"] == 30 and info["rows"]["dropped"] == {}


def test_it_can_be_copied(inner):
    task = discovered(inner, By(parity))
    again = copy.deepcopy(task)
    assert [p.id for p in again.problems("pool", 3, 0)] == [p.id for p in task.problems("pool", 3, 0)]
    assert isinstance(task, Discovered) and set(SHARES) >= set(SPLITS)
