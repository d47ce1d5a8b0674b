import copy
import json
import pickle
from dataclasses import replace

import gymnasium as gym
import numpy as np
import orjson
import pytest
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import iterate
from gymnasium.wrappers.vector import RecordEpisodeStatistics

import dataenv  # noqa: F401  (registers the environments)
from dataenv.envs import ENVS, vector
from dataenv.envs.skill_list import SkillListEnv
from dataenv.envs.vector import TeachingVectorEnv
from dataenv.errors import EpisodeOver, InvalidAction, InvalidData, TrainingFailed
from dataenv.records import Record
from dataenv.students import make_student, make_students

IDS = [id for id, _, _ in ENVS.values()]
LIST = "dataenv/SkillList-v0"
K = 3


def make(fakes, id=LIST, n=K, students=None, **options):
    options = {"task": fakes.Toy(), "rows": 12, "feedback": 4, "steps": 3, **options}
    students = [fakes.Scripted() for _ in range(n)] if students is None else students
    return gym.make_vec(id, num_envs=n, vectorization_mode="vector_entry_point", student=students, **options)


def say(value):
    def default(value):
        if isinstance(value, Record):
            return value.model_dump()
        return value.tolist() if hasattr(value, "tolist") else list(value)

    return orjson.dumps(value, default=default, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_SORT_KEYS)


def alone(info, i):
    """What a vector's info says of environment `i`."""
    return {
        key: alone(value, i) if isinstance(value, dict) else value[i]
        for key, value in info.items()
        if not key.startswith("_") and info[f"_{key}"][i]
    }


def actions(envs):
    """A possible action for each environment, as a batch and one by one."""
    each = [env.action_space.sample() for env in envs.envs]
    if not isinstance(envs.single_action_space, gym.spaces.Dict):
        return tuple(each), each
    return {key: [action[key] for action in each] for key in each[0]}, each


@pytest.mark.parametrize("id", IDS)
def test_each_is_what_it_would_be_alone(fakes, id):
    envs = make(fakes, id)
    singles = [
        gym.make(id, task=fakes.Toy(), student=fakes.Scripted(), rows=12, feedback=4, steps=3).unwrapped
        for _ in range(K)
    ]
    for i, env in enumerate(envs.envs):
        env.action_space.seed(i)
    observations, info = envs.reset(seed=[5, 6, 5])
    told = [env.reset(seed=seed) for env, seed in zip(singles, (5, 6, 5), strict=True)]
    for _ in range(7):  # through two autoresets
        for i, (seen, own) in enumerate(told):
            assert say(list(iterate(envs.observation_space, observations))[i]) == say(seen)
            assert say(alone(info, i)) == say(own)
        resetting = envs._autoreset_envs.copy()
        batch, each = actions(envs)
        observations, rewards, terminations, truncations, info = envs.step(batch)
        told = []
        for i, env in enumerate(singles):
            if resetting[i]:
                told.append(env.reset())
                assert (rewards[i], terminations[i], truncations[i]) == (0.0, False, False)
            else:
                seen, reward, terminated, truncated, own = env.step(each[i])
                told.append((seen, own))
                assert (rewards[i], terminations[i], truncations[i]) == (reward, terminated, truncated)


@pytest.mark.parametrize("env_id", IDS)
def test_it_is_what_make_vec_gives_by_default(env_id, registered):
    envs = gym.make_vec(env_id, num_envs=2, task="toy", student="scripted", rows=12, feedback=4)
    assert isinstance(envs, TeachingVectorEnv)
    assert envs.num_envs == 2
    assert envs.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    assert len({id(env.student) for env in envs.envs}) == 2
    assert len({id(env.task) for env in envs.envs}) == 1
    observations, _ = envs.reset(seed=0)
    assert observations in envs.observation_space
    again = gym.make_vec(envs.spec)
    assert say(again.reset(seed=0)[0]) == say(observations)
    pickle.loads(pickle.dumps(envs.spec))
    json.loads(gym.spec(env_id).to_json())


def test_stock_vector_wrappers_work(fakes):
    envs = RecordEpisodeStatistics(make(fakes))
    envs.reset(seed=0)
    for step in range(1, 4):
        *_, info = envs.step(envs.action_space.sample())
        assert ("episode" in info) == (step == 3)
    assert info["episode"]["l"].tolist() == [3] * K


def test_nothing_in_info_is_a_copy(fakes):
    envs = make(fakes)
    _, info = envs.reset(seed=0)
    seen = [env.situation.examination.attempts for env in envs.envs]
    for i in range(K):
        failures = info["feedback"][i].failures
        assert failures
        assert all(any(failure is attempt for attempt in seen[i]) for failure in failures)


def test_other_autoreset_modes(fakes):
    envs = make(fakes, steps=1, autoreset_mode="SameStep")
    envs.reset(seed=0)
    observations, _, _, truncations, info = envs.step(envs.action_space.sample())
    assert truncations.all()
    assert observations["budget"].tolist() == [[12, 1]] * K
    assert info["final_obs"][0]["budget"].tolist() == [0, 0]


def test_a_wrong_action_names_its_environment_before_any_student_is_taught(fakes):
    students = [fakes.Scripted() for _ in range(K)]
    envs = make(fakes, students=students)
    envs.reset(seed=0)
    before = [env.situation for env in envs.envs]
    action = copy.deepcopy(envs.action_space.sample())
    action["rows"] = (np.array([4, 4, 4]), np.array([1, 1, 1]), np.array([40, 0, 0]))
    with pytest.raises(InvalidAction, match=r"environment 2: action\['rows'\] adds up to 40"):
        envs.step(action)
    assert all(now is then for now, then in zip([env.situation for env in envs.envs], before, strict=True))
    assert not any(student.rows for student in students)
    action["rows"] = np.array([[4, 4, 4]] * K)  # one array does for the tuple
    envs.step(action)
    assert all(student.rows for student in students)


def test_the_action_of_an_environment_that_is_reset_is_ignored(fakes):
    envs = make(fakes, n=1, steps=1)
    envs.reset(seed=0)
    envs.step({"rows": [[4, 4, 4]], "difficulty": np.zeros((1, 3))})
    envs.step({"rows": [[400, 4, 4]], "difficulty": np.zeros((1, 3))})
    assert envs.envs[0].situation.step == 0


@pytest.mark.parametrize("students", ["one", "two", "twice the same"])
def test_each_needs_a_student_of_its_own(fakes, students):
    student = fakes.Scripted()
    given = {"one": student, "two": [student, fakes.Scripted()], "twice the same": [student, fakes.Scripted(), student]}
    with pytest.raises(InvalidData, match="student"):
        make(fakes, students=given[students])


def test_gymnasiums_own_vector_of_one_student_is_refused_in_words(fakes):
    envs = gym.make_vec(
        LIST, num_envs=2, vectorization_mode="sync", task=fakes.Toy(), student=fakes.Scripted(), rows=12, feedback=4
    )
    envs.reset(seed=0)
    with pytest.raises(InvalidData, match="give each environment a student of its own"):
        envs.step(actions(envs)[0])


def test_there_is_an_entry_point_for_every_environment_and_no_other():
    for name in ENVS:
        assert getattr(vector, name.replace("-", "_")).args == (ENVS[name][1],)
    with pytest.raises(AttributeError, match="skill_lost"):
        _ = vector.skill_lost


def test_micro_students_share_their_base_and_nothing_else():
    envs = gym.make_vec(LIST, num_envs=2, task="drills:copying,sorting", rows=8, feedback=4, steps=2)
    envs.reset(seed=0)
    one, two = (env.student for env in envs.envs)
    untaught = two.version
    assert one.base.load("cpu", "float32")[0] is two.base.load("cpu", "float32")[0]
    envs.step({"rows": ([8, 0], [0, 0]), "difficulty": np.full((2, 2), -1.0)})
    assert one.version != untaught == two.version
    envs.close()


def test_reset_masks_and_seeds(fakes):
    envs = make(fakes, n=3)
    envs.reset(seed=0)
    envs.step(actions(envs)[0])
    before = [env.situation for env in envs.envs]
    observations, info = envs.reset(seed=[7, None, 9], options={"reset_mask": np.array([True, False, True])})
    assert [env.situation.step for env in envs.envs] == [0, 1, 0]
    assert envs.envs[1].situation is before[1]
    assert info["_feedback"].tolist() == [True, False, True]
    for i, seed in ((0, 7), (2, 9)):
        seen, own = fakes.make_env(rows=12, feedback=4, steps=3).reset(seed=seed)
        assert say(list(iterate(envs.observation_space, observations))[i]) == say(seen)
        assert say(alone(info, i)) == say(own)


@pytest.mark.parametrize(
    "wrong",
    [
        {"seed": [1, 2]},
        {"seed": 1.5},
        {"options": {"reset_mask": [True, False, True]}},
        {"options": {"reset_mask": np.array([1, 0, 1])}},
        {"options": {"reset_mask": np.array([True])}},
        {"options": {"reset_mask": np.zeros(3, np.bool_)}},
    ],
)
def test_a_wrong_reset_is_refused_before_any_environment_is_reset(fakes, wrong):
    envs = make(fakes)
    envs.reset(seed=0)
    before = [env.situation for env in envs.envs]
    with pytest.raises((ValueError, TypeError)):
        envs.reset(**wrong)
    assert all(env.situation is then for env, then in zip(envs.envs, before, strict=True))


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
@pytest.mark.parametrize("where", ["teach", "answer", "version"])
@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt()], ids=["error", "interrupt"])
@pytest.mark.parametrize("id", IDS)
def test_after_an_error_in_one_all_are_as_before(fakes, id, error, where, mode):
    """And go on as if nothing had happened, through the end of an episode."""
    students = [fakes.Scripted() for _ in range(K)]
    broken, twin = (make(fakes, id, students=own, autoreset_mode=mode) for own in (students, None))
    for envs in (broken, twin):
        envs.reset(seed=3)
        for i, env in enumerate(envs.envs):
            env.action_space.seed(i)
    failures = 0

    def state():
        return [say((env.situation.taught, student.rows)) for env, student in zip(broken.envs, students, strict=True)]

    for _ in range(6):
        batch, _ = actions(twin)
        before = state()
        students[1].break_in[where] = error
        try:
            after = broken.step(batch)  # of an action that teaches nobody, say
        except (ValueError, KeyboardInterrupt) as raised:
            assert raised is error
            assert state() == before
            students[1].break_in.clear()
            failures += 1
            after = broken.step(batch)
        assert say(after) == say(twin.step(batch))
    assert failures


def test_an_episode_that_is_over_is_refused_in_words_where_none_resets_it(fakes):
    envs = make(fakes, steps=1, autoreset_mode="Disabled")
    envs.reset(seed=0)
    *_, truncations, _ = envs.step(actions(envs)[0])
    assert truncations.all()
    with pytest.raises(EpisodeOver):
        envs.step(actions(envs)[0])
    with pytest.raises(EpisodeOver, match="reset"):
        make(fakes).step(actions(envs)[0])
    envs.reset(options={"reset_mask": truncations})
    envs.step(actions(envs)[0])


MICRO = {"task": "drills:copying,sorting,addition", "rows": 24, "feedback": 8, "steps": 2}


def micro_vector(n=3, **options):
    envs = gym.make_vec(LIST, num_envs=n, **{**MICRO, **options})
    return envs, envs.reset(seed=4)


def plan(*rows):
    return {"rows": np.array(rows), "difficulty": np.full((len(rows), 3), -1.0)}


def test_stacked_micro_students_learn_what_single_ones_learn():
    envs, (_, info) = micro_vector()
    singles = [SkillListEnv(student="micro", **MICRO) for _ in range(3)]
    told = [env.reset(seed=4 + i) for i, env in enumerate(singles)]
    assert info["student"].tolist() == [own["student"] for _, own in told]
    for rows in ([[24, 0, 0], [8, 8, 8], [0, 0, 0]], [[0, 0, 5], [20, 4, 0], [1, 0, 0]]):
        _, rewards, _, _, info = envs.step(plan(*rows))
        for i, env in enumerate(singles):
            _, reward, _, _, own = env.step({part: value[i] for part, value in plan(*rows).items()})
            assert rewards[i] == reward
            assert envs.envs[i].situation.examination.accuracy == env.situation.examination.accuracy
            if own["teach"]["loss"] is not None:
                assert info["teach"]["loss"][i] == pytest.approx(own["teach"]["loss"], abs=1e-5)
            mine, its = (list(student.clone_state().values()) for student in (envs.envs[i].student, env.student))
            assert max(float((one - other).abs().max()) for one, other in zip(mine, its, strict=True)) < 1e-3


def test_same_seed_same_bytes_and_what_is_restored_goes_on_the_same_way():
    trajectories = []
    for _ in range(2):
        envs, first = micro_vector()
        said = [say(first), say(envs.step(plan([24, 0, 0], [8, 8, 8], [0, 9, 0])))]
        states = [env.clone_state() for env in envs.envs]
        said.append(say(envs.step(plan([0, 24, 0], [8, 8, 8], [3, 0, 0]))))
        trajectories.append(said)
    for env, state in zip(envs.envs, states, strict=True):
        env.restore_state(state)
    envs._autoreset_envs[:] = False
    assert say(envs.step(plan([0, 24, 0], [8, 8, 8], [3, 0, 0]))) == said[2]
    assert trajectories[0] == trajectories[1]


def test_a_student_that_cannot_be_taught_leaves_all_as_before():
    envs, _ = micro_vector()
    envs.step(plan([8, 0, 0], [8, 0, 0], [8, 0, 0]))
    students = [env.student for env in envs.envs]

    def state():
        return [(env.student.version, env.situation.step) for env in envs.envs]

    before, recipe = state(), students[1].recipe
    students[1].recipe = replace(recipe, learning_rate=1e38)
    with pytest.raises(TrainingFailed, match="lower the learning rate"):
        envs.step(plan([8, 0, 0], [8, 8, 8], [0, 8, 0]))
    assert state() == before
    students[1].recipe = recipe
    envs.step(plan([8, 0, 0], [8, 8, 8], [0, 8, 0]))
    assert not {version for version, _ in state()} & {version for version, _ in before}


def test_lora_students_of_a_vector_share_the_base_and_learn_as_alone():
    students = make_students("micro", 3, method="lora")
    envs, _ = micro_vector(student=students)
    single = SkillListEnv(student=make_student("micro", method="lora"), **MICRO)
    single.reset(seed=5)
    _, _, _, _, info = envs.step(plan([24, 0, 0], [8, 8, 8], [0, 24, 0]))
    *_, own = single.step({"rows": np.array([8, 8, 8]), "difficulty": np.full(3, -1.0)})
    assert info["teach"]["loss"][1] == pytest.approx(own["teach"]["loss"], abs=1e-5)
    mine, its = (list(student.clone_state().values()) for student in (envs.envs[1].student, single.student))
    assert max(float((one - other).abs().max()) for one, other in zip(mine, its, strict=True)) < 1e-3
    assert len({student.version for student in students}) == 3
    bases = [student.model.model.layers[0].mlp.up_proj.base.weight for student in students]
    assert len({weight.data_ptr() for weight in bases}) == 1
