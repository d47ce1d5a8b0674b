"""Engines and filters that ask the student, in environments and runs: exact forks, resumes, vectors, and no leaks."""

import copy
import json
import shutil

import gymnasium as gym
import numpy as np
import orjson
import pytest

import dataenv  # noqa: F401  (registers the environments)
from dataenv.agents import teachers
from dataenv.agents.controls import Random
from dataenv.envs.open_ended import OpenEndedEnv
from dataenv.envs.skill_list import SkillListEnv
from dataenv.envs.skill_tree import SkillTreeEnv
from dataenv.envs.wrappers import HideFeedback, TextView
from dataenv.errors import InvalidData
from dataenv.records import Feedback, Past, Plan, Reply, Request
from dataenv.registry import Entry
from dataenv.runs.config import RunConfig
from dataenv.runs.episode import resume, start
from dataenv.seeding import stream
from dataenv.students import students
from dataenv.tasks import tasks

MIXTURE = "mixture:self-sampling=0.5,procedural=0.5"


@pytest.fixture
def sampling(fakes):
    """A student whose samples are right as often as its ability says, which rises with what it is taught."""

    class Sampling(fakes.Scripted):
        name = "sampling"

        def __init__(self, shots=2, **options):
            super().__init__(shots=shots, **options)

        def answer(self, prompts, *, max_new_tokens, shots=(), samples=1, temperature=0.0, seed=0):
            if not temperature:
                return super().answer(prompts, max_new_tokens=max_new_tokens, shots=shots)
            self.calls.append("sample")
            rng, replies = stream(seed), []
            for prompt in prompts:
                skill, _, number = prompt.text.partition(" ")
                right = rng.random(samples) < self.ability(skill)
                replies.append([Reply(f"{skill}:{number}" if r else "?") for r in right])
            return replies

    return Sampling


@pytest.fixture
def make(fakes, sampling):
    def make(kind=SkillListEnv, engine="self-sampling", **options):
        options = {"rows": 20, "feedback": 8, "task": fakes.Toy(), "student": sampling(), **options}
        return kind(engine=engine, **options)

    return make


def told(env, steps=3):
    """What the coming steps bring, as JSON."""
    rng, out = stream(7, "actions"), []
    for _ in range(steps):
        rows = rng.multinomial(env.rows, np.ones(3) / 3)
        out.append(env.step({"rows": rows, "difficulty": np.full(3, -1.0)}))
    return json.dumps(out, default=lambda v: v.tolist() if hasattr(v, "tolist") else v.model_dump(mode="json"))


def test_the_environment_hands_its_student_to_engine_and_filters(make):
    env = make(engine=MIXTURE, filters=["known:0.75", "helps"])
    assert {part.student for part in (env.engine.parts[0], *env.filters)} == {env.student}
    assert env.student.calls == []


@pytest.mark.parametrize("regime", ["continue", "retrain"])
def test_rows_are_the_students_own_and_what_failed_is_counted(make, regime):
    env = make(regime=regime)
    env.reset(seed=0)
    for _ in range(2):
        version, lessons = env.student.version, len(env.student.lessons)
        told_ = env.step({"rows": np.array([12, 4, 4]), "difficulty": np.full(3, -1.0)})
        info = told_[-1]
        assert info["rows"]["accepted"] == 20
        assert info["rows"]["dropped"]["unsolved"] > 0
        assert len(env.student.lessons) == lessons + 1
        assert env.student.version != version
    assert {row.provenance["engine"] for row in env.situation.taught} == {"self-sampling"}


def test_under_retrain_the_student_that_was_taught_answers_not_the_untaught(make):
    env = make(regime="retrain")
    env.reset(seed=0)
    env.step({"rows": np.array([20, 0, 0]), "difficulty": np.full(3, -1.0)})
    seen = []
    ask = env.student.answer
    env.student.answer = lambda prompts, **o: seen.append(dict(env.student.rows)) or ask(prompts, **o)
    env.step({"rows": np.array([5, 0, 0]), "difficulty": np.full(3, -1.0)})
    assert seen[0] == {"a": 20}


@pytest.mark.parametrize("options", [{}, {"engine": MIXTURE}, {"filters": ["known:0.9", "helps:0"]}])
def test_a_fork_and_a_copy_have_the_same_future(make, options):
    env = make(**options)
    env.reset(seed=0)
    told(env, 1)
    state, copied = env.clone_state(), copy.deepcopy(env)
    future = told(env)
    env.restore_state(state)
    assert told(env) == future == told(copied)


@pytest.mark.parametrize("error", [RuntimeError("boom"), KeyboardInterrupt()])
@pytest.mark.parametrize("options", [{}, {"engine": "procedural", "filters": ["known"]}])
def test_a_student_that_fails_while_it_is_asked_leaves_all_as_it_was(make, options, error):
    env, twin = make(**options), make(**options)
    for one in (env, twin):
        one.reset(seed=0)
        told(one, 1)
    before = env.situation
    env.student.break_in = {"answer": error}
    ask = env.student.answer
    env.student.answer = lambda *_, **__: (_ for _ in ()).throw(error)
    with pytest.raises(type(error)):
        told(env, 1)
    env.student.answer, env.student.break_in = ask, {}
    assert env.situation is before
    assert told(env) == told(twin)


def test_an_engine_or_filter_of_another_environment_is_refused(make):
    env = make(filters="known")
    for options in ({"engine": env.engine}, {"filters": env.filters}):
        with pytest.raises(InvalidData, match="asks the student of another environment already; give each"):
            make(**options)


def test_what_is_no_filter_is_refused(make):
    with pytest.raises(InvalidData, match=r"^filters must be ids or functions"):
        make(filters=[3])


class Parity:
    """A discovery: two skills, by the last digit of the prompt."""

    name = "parity"
    skills: tuple[str, ...] = ()

    def fit(self, problems):
        self.skills = ("even", "odd")

    def skills_of(self, problems):
        return [("even", "odd")[int(problem.prompt.text[-1]) % 2] for problem in problems]

    def state(self):
        return list(self.skills)

    def restore(self, state):
        self.skills = tuple(state)


def test_skills_that_were_discovered_do_as_well(make):
    env = make(skills=Parity(), filters=["known:1"])
    env.reset(seed=0)
    *_, info = env.step({"rows": np.array([8, 4]), "difficulty": np.full(2, -1.0)})
    assert info["rows"]["taught"] == {"even": 8, "odd": 4}
    assert info["rows"]["dropped"]["unsolved"] > 0
    for row in env.situation.taught:
        assert row.skill == Parity().skills_of([row])[0]
        assert row.completion == row.prompt.text.replace(" ", ":")


def test_an_open_ended_environment_can_have_it(make):
    env = make(OpenEndedEnv)
    env.reset(seed=0)
    env.step(({"instruction": "c", "rows": 5}, {"prompt": "what is the sea", "completion": "water"}))
    assert [row.provenance["engine"] for row in env.situation.taught] == ["verbatim"] + ["self-sampling"] * 5


def test_probes_of_a_tree_are_neither_chosen_by_the_student_nor_filtered(make):
    """Else every subskill would look solved, or unsolved."""
    env = make(SkillTreeEnv, filters=["known:0"], task="drills:copying,addition", student="micro", feedback=2)
    env.reset(seed=0)
    plan = Plan(requests=(Request(skill="copying", rows=4), Request(skill="addition", rows=4)))
    *_, info = env.step(env.action(plan))
    assert info["rows"]["accepted"] == 0
    subskills = [s for tree in info["forest"].trees for s in tree.subskills]
    assert subskills
    assert all(len(s.probes) == 4 for s in subskills)


def test_in_a_vector_each_asks_its_own_student(registered, sampling, monkeypatch):
    monkeypatch.setitem(students._entries, "sampling", Entry(sampling))
    options = {"task": "toy", "student": "sampling", "rows": 12, "feedback": 4, "engine": MIXTURE, "filters": ["known"]}
    envs = gym.make_vec("dataenv/SkillList-v0", num_envs=2, **options)
    envs.reset(seed=5)
    action = {"rows": np.array([[4, 4, 4]] * 2), "difficulty": np.full((2, 3), -1.0)}
    *_, infos = envs.step(action)
    for i, env in enumerate(envs.envs):
        assert env.unwrapped.engine.parts[0].student is env.unwrapped.student
        alone = gym.make("dataenv/SkillList-v0", **options).unwrapped
        alone.reset(seed=5 + i)
        *_, info = alone.step({"rows": np.array([4, 4, 4]), "difficulty": np.full(3, -1.0)})
        assert alone.situation.taught == env.unwrapped.situation.taught
        assert infos["feedback"][i] == info["feedback"]


def test_by_id_it_can_be_rebuilt_from_its_spec(registered, sampling, monkeypatch):
    monkeypatch.setitem(students._entries, "sampling", Entry(sampling))
    env = gym.make("dataenv/SkillList-v0", task="toy", student="sampling", engine=MIXTURE, filters=["known:0.9"])
    again = gym.make(gym.envs.registration.EnvSpec.from_json(env.spec.to_json()))
    assert again.unwrapped.filters[0].threshold == 0.9


# -- what the teacher sees of it --------------------------------------------------------------------------------------


def test_acceptance_by_reason_is_in_the_feedback_of_all_finished_steps(make):
    env = make()
    _, info = env.reset(seed=0)
    assert info["feedback"].history == ()
    expected = []
    for rows in ([20, 0, 0], [0, 0, 0], [1, 1, 1]):
        _, reward, *_, info = env.step({"rows": np.array(rows), "difficulty": np.full(3, -1.0)})
        made = info["rows"]
        expected.append(
            Past(
                asked=sum(rows),
                rows=made["accepted"],
                dropped=made["dropped"],
                reward=reward,
                error=info["reward_error"],
            )
        )
        assert info["feedback"].history == tuple(expected) == env.situation.history
    assert expected[0].dropped["unsolved"] > 0
    assert expected[1].dropped == {}
    feedback = info["feedback"]
    assert Feedback.model_validate_json(feedback.model_dump_json()) == feedback


def test_a_teacher_that_reads_sees_it(make):
    env = TextView(make())
    env.reset(seed=0)
    text, *_, info = env.step({"rows": np.array([20, 0, 0]), "difficulty": np.full(3, -1.0)})
    past = info["feedback"].history[0]
    assert f"| 1 | 20 of 20 | {past.dropped['unsolved']} unsolved | " in text


def test_its_no_state_twin_sees_no_gain_in_it(make):
    env = HideFeedback(make())
    env.reset(seed=0)
    *_, info = env.step({"rows": np.array([20, 0, 0]), "difficulty": np.full(3, -1.0)})
    (past,) = info["feedback"].history
    assert (past.asked, past.rows, past.reward, past.error) == (20, 20, 0.0, 0.5)


# -- runs -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def world(fakes, sampling, monkeypatch):
    class ExamToy(fakes.Toy):
        def problems(self, split, per_skill, seed):
            return super().problems("selection" if split == "exam" else split, per_skill, seed)

    class Reader(Random):
        """Its draws depend on what it is told of the steps before."""

        name = "reader"

        def act(self, observation, info):
            self.rng.random(sum(sum(past.dropped.values()) for past in info["feedback"].history))
            return super().act(observation, info)

    monkeypatch.setitem(tasks._entries, "exam-toy", Entry(ExamToy))
    monkeypatch.setitem(students._entries, "sampling", Entry(sampling))
    monkeypatch.setitem(teachers._entries, "reader", Entry(Reader))


@pytest.mark.parametrize("regime", ["continue", "retrain"])
@pytest.mark.parametrize("lines", [2, 3, 4])
def test_a_stopped_run_goes_on_to_the_same_end(world, tmp_path, regime, lines):
    config = RunConfig(
        task="exam-toy", student="sampling", teacher="reader", steps=3, rows=12, feedback=4, exam=5, regime=regime,
        engine=MIXTURE, filters=("known:1",), options={"engine": {"self-sampling.samples": 3}},
    )  # fmt: skip
    done = start(config, tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "part")
    log = tmp_path / "part" / "events.jsonl"
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:lines]))
    assert resume(tmp_path / "part")["hash"] == done["hash"]
    events = [orjson.loads(line) for line in (tmp_path / "whole" / "events.jsonl").read_bytes().splitlines()]
    assert sum(event["dropped"].get("unsolved", 0) for event in events if event["event"] == "step") > 0
