import copy
import pickle
import random
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers import FlattenObservation, NormalizeReward, RecordEpisodeStatistics, TimeLimit

from dataenv.errors import EpisodeOver, InvalidData, Note, TrainingFailed
from dataenv.records import Feedback, Reply

# -- Gymnasium's contract ---------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("error")
def test_gymnasiums_checker_is_content(fakes):
    check_env(fakes.make_env(rows=6, feedback=4), skip_render_check=True)


def test_make_builds_it_by_id_and_the_passive_checker_is_content(registered, recwarn):
    env = gym.make("dataenv/SkillList-v0", task="toy", student="scripted", rows=5, feedback=4, steps=2)
    env.reset(seed=0)
    for _ in range(2):
        *_, truncated, _ = env.step(env.action_space.sample())
    assert truncated
    env.close()
    assert not [w for w in recwarn if "gymnasium" in str(w.filename)]
    rebuilt = gym.make(gym.envs.registration.EnvSpec.from_json(env.spec.to_json()))
    assert rebuilt.unwrapped.rows == 5


def test_the_same_actions_bring_the_same_trajectory_byte_for_byte(fakes, play):
    first = play(fakes.make_env(), 3)
    assert play(fakes.make_env(), 3) == first
    env = fakes.make_env()
    play(env, 99)
    assert play(env, 3) == first
    assert play(fakes.make_env(), 4) != first


def test_reset_without_a_seed_goes_on_in_the_generator(fakes):
    def episodes():
        env = fakes.make_env()
        return [env.reset(seed=seed) and env.situation.seed for seed in (5, None, None)]

    assert episodes() == episodes()
    assert len(set(episodes())) == 3


def test_global_generators_stay_untouched(fakes, play):
    before = random.getstate(), np.random.get_state()[1].tolist()
    play(fakes.make_env(), 0)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before


def test_it_can_be_pickled_and_copied_before_reset(fakes, play):
    env = fakes.make_env()
    first = play(pickle.loads(pickle.dumps(env)), 1)
    assert play(copy.deepcopy(env), 1) == first == play(env, 1)


def test_the_constructor_opens_nothing(fakes):
    env = fakes.make_env()
    assert env.student.calls == []
    assert env.task.asked == []


def test_stock_wrappers_fit(fakes):
    env = RecordEpisodeStatistics(TimeLimit(fakes.make_env(), 3))
    env.reset(seed=0)
    rewards = []
    for _ in range(3):
        _, reward, terminated, truncated, info = env.step(fakes.deal(env, 5))
        rewards.append(reward)
    assert (terminated, truncated) == (False, True)
    assert info["episode"]["l"] == 3
    assert info["episode"]["r"] == pytest.approx(sum(rewards))
    flat = NormalizeReward(FlattenObservation(fakes.make_env()))
    observation, _ = flat.reset(seed=0)
    assert observation.shape == (14,)
    assert flat.step(fakes.deal(flat, 5))[0] in flat.observation_space


def test_vectorised_it_does_the_same_as_alone(registered, fakes):
    options = {"task": "toy", "student": "scripted", "rows": 10, "feedback": 4, "steps": 3}
    envs = gym.make_vec("dataenv/SkillList-v0", num_envs=2, vectorization_mode="sync", **options)
    alone = [fakes.make_env(rows=10, feedback=4, steps=3) for _ in range(2)]
    together, _ = envs.reset(seed=[1, 2])
    for i, env in enumerate(alone):
        single, _ = env.reset(seed=i + 1)
        assert all((together[key][i] == single[key]).all() for key in single)
    for step in range(3):
        # one teaches nothing, so that its loss is None beside the other's number
        rows = [[0, 0, 0], [2, 3, 5]] if step == 1 else [[1, 2, 3], [10, 0, 0]]
        actions = {"rows": np.array(rows), "difficulty": np.full((2, 3), -1.0)}
        together, rewards, terminated, truncated, info = envs.step(actions)
        for i, env in enumerate(alone):
            single, reward, *ends, mine = env.step({"rows": np.array(rows[i]), "difficulty": np.full(3, -1.0)})
            assert all((together[key][i] == single[key]).all() for key in single)
            assert (rewards[i], [terminated[i], truncated[i]]) == (reward, ends)
            assert info["reward_error"][i] == mine["reward_error"]
            assert isinstance(info["feedback"][i], Feedback)
    assert truncated.all()
    envs.step(envs.action_space.sample())
    envs.close()


def test_observations_are_copies(fakes):
    env, twin = fakes.make_env(), fakes.make_env()
    observation, info = env.reset(seed=0)
    twin.reset(seed=0)
    for _ in range(2):
        for value in observation.values():
            value[...] = 0
        for value in info.values():
            if isinstance(value, dict):
                value.clear()
        info["feedback"].taught.clear()
        observation, reward, *_, info = env.step(fakes.deal(env, 4, 4))
        expected, expected_reward, *_, expected_info = twin.step(fakes.deal(twin, 4, 4))
        assert reward == expected_reward
        assert all((observation[key] == expected[key]).all() for key in expected)
        assert info == expected_info


# -- the reward -------------------------------------------------------------------------------------------------------


def test_the_reward_is_the_gain_and_the_skills_gains_add_up_to_it(fakes):
    env = fakes.make_env(feedback=20)
    _, info = env.reset(seed=0)
    total, start = 0.0, info["feedback"].accuracy
    for _ in range(4):
        before = info["feedback"]
        _, reward, *_, info = env.step(fakes.deal(env, 15, 5))
        after = info["feedback"]
        assert type(reward) is float
        assert reward == pytest.approx(after.accuracy - before.accuracy)
        n = {score.skill: score.n for score in after.skills}
        assert sum(info["skill_gain"][s] * n[s] for s in n) / after.n == pytest.approx(reward)
        assert info["reward_error"] > 0
        assert info["reward_n"] == 60
        total += reward
    assert total == pytest.approx(after.accuracy - start) and total > 0


def test_the_first_reward_counts_from_the_better_of_plain_and_few_shot(fakes):
    student = fakes.Scripted(prior=dict.fromkeys("abc", 0.2), shots=3, few_shot_bonus=0.5, unlearnable="abc")
    env = fakes.make_env(student=student, feedback=20)
    _, info = env.reset(seed=0)
    baseline = info["baseline"]
    assert baseline["used"] == "few_shot"
    assert baseline["few_shot"] > baseline["plain"]
    assert info["feedback"].accuracy == baseline["few_shot"]
    assert student.calls == ["reset", "answer"] + 3 * ["answer few"]  # each skill after its own exemplars
    _, reward, *_, info = env.step(fakes.deal(env, 5))
    assert reward == pytest.approx(baseline["plain"] - baseline["few_shot"])  # nothing learnt, the crutch taken away
    assert info["baseline"] == baseline
    assert env.step(fakes.deal(env, 5))[1] == 0.0


def test_exemplars_come_from_their_own_split_skill_by_skill(fakes):
    env = fakes.make_env(student=fakes.Scripted(shots=3))
    env.reset(seed=0)
    assert sorted(split for split, *_ in env.task.asked) == ["exemplar", "feedback"]
    assert {skill: [e.skill for e in rows] for skill, rows in env.exemplars.items()} == {s: [s] * 3 for s in "abc"}
    exemplars = {e.prompt.key for rows in env.exemplars.values() for e in rows}
    assert len(exemplars) == 9
    assert not exemplars & {p.prompt.key for p in env.problems}


def test_reset_brings_back_the_untaught_student_and_an_empty_pool(fakes):
    env = fakes.make_env()
    first, info = env.reset(seed=0)
    for _ in range(3):
        env.step(fakes.deal(env, 20))
    assert env.student.version != info["student"]
    again, info_again = env.reset(seed=0)
    assert info_again == info
    assert all((first[key] == again[key]).all() for key in first)
    assert env.situation.taught == ()


# -- rows and regimes -------------------------------------------------------------------------------------------------


def test_a_plan_without_rows_neither_trains_nor_examines(fakes):
    env = fakes.make_env(steps=3)
    _, info = env.reset(seed=0)
    calls = list(env.student.calls)
    _, reward, terminated, truncated, after = env.step(fakes.deal(env))
    assert (reward, terminated, truncated) == (0.0, False, False)
    assert env.student.calls == calls
    assert after["student"] == info["student"]
    assert after["teach"] == {"rows": 0, "tokens": 0, "loss": None, "overlong": 0}
    assert after["reward_error"] > 0
    assert after["feedback"].budget.steps_left == 2


def test_rows_that_all_fall_at_the_gate_train_nothing_either(fakes):
    env = fakes.make_env(filters=[lambda rows, rng: ["unwanted"] * len(rows)])
    env.reset(seed=0)
    calls = list(env.student.calls)
    _, reward, *_, info = env.step(fakes.deal(env, 5))
    assert (reward, info["rows"]["accepted"], info["rows"]["shortfall"]) == (0.0, 0, {"a": 5})
    assert set(info["rows"]["dropped"]) == {"unwanted"}
    assert env.student.calls == calls


def test_the_budget_ends_by_the_cumulative_count(fakes):
    env = fakes.make_env(rows=120, max_rows=1000, steps=50)
    env.reset(seed=0)
    for step in range(1, 10):
        _, _, terminated, truncated, info = env.step(fakes.deal(env, 60, 40, 20))
        assert terminated == (step == 9)
        assert info["rows"]["clipped"] == (step == 9)
        assert not truncated
    assert len(env.situation.taught) == 1000
    assert sum(len(rows) for rows, _ in env.student.lessons) >= 1000
    assert info["rows"]["accepted"] == 40
    assert info["rows"]["taught"] == {"a": 20, "b": 13, "c": 7}  # in proportion
    assert info["feedback"].budget.rows_left == 0
    with pytest.raises(EpisodeOver, match="reset"):
        env.step(fakes.deal(env, 1))
    assert len(env.situation.taught) == 1000


def test_continue_teaches_the_new_rows_and_replays_a_share_of_the_earlier(fakes):
    env = fakes.make_env(regime="continue", replay=0.25)
    env.reset(seed=0)
    for _ in range(3):
        env.step(fakes.deal(env, 4, 4))
    taught = env.situation.taught
    lessons = [rows for rows, _ in env.student.lessons]
    assert [len(rows) for rows in lessons] == [8, 10, 10]
    for i, rows in enumerate(lessons):
        assert rows[:8] == list(taught[8 * i : 8 * i + 8])
        assert set(rows[8:]) <= set(taught[: 8 * i])
        assert len(set(rows)) == len(rows)
    assert env.student.calls.count("reset") == 1
    assert len({seed for _, seed in env.student.lessons}) == 3


@pytest.mark.parametrize(("replay", "sizes"), [(0.0, [8, 8, 8]), (1.0, [8, 16, 16]), (100.0, [8, 16, 24])])
def test_replay_never_takes_more_than_there_is(fakes, replay, sizes):
    env = fakes.make_env(replay=replay)
    env.reset(seed=0)
    for _ in range(3):
        env.step(fakes.deal(env, 8))
    assert [len(set(rows)) for rows, _ in env.student.lessons] == sizes


def test_retrain_teaches_all_rows_so_far_to_the_untaught_student(fakes):
    env = fakes.make_env(regime="retrain")
    env.reset(seed=0)
    for i in range(1, 4):
        env.student.calls.clear()
        env.step(fakes.deal(env, 3, 2))
        assert env.student.calls == ["reset", "teach", "answer"]
        assert env.student.lessons[-1][0] == list(env.situation.taught)
        assert env.student.rows == {"a": 3 * i, "b": 2 * i}


def test_rows_are_new_right_pool_rows_and_say_where_they_come_from(fakes):
    env = fakes.make_env()
    env.teacher = "me"
    env.reset(seed=0)
    for _ in range(3):
        env.step(fakes.deal(env, 10, 10, difficulty=0.5))
    rows = env.situation.taught
    assert len({row.prompt.key for row in rows}) == 60
    assert not {row.prompt.key for row in rows} & {p.prompt.key for p in env.problems}
    assert [row.provenance["step"] for row in rows] == [1] * 20 + [2] * 20 + [3] * 20
    assert {(row.provenance["teacher"], row.provenance["seed"]) for row in rows} == {("me", env.situation.seed)}
    assert {row.difficulty for row in rows} == {0.5}
    assert all(env.task.verify(row.as_problem(), row.completion).correct for row in rows)


def test_a_data_set_that_runs_out_says_so(fakes):
    env = fakes.make_env(fakes.FixedToy(per_skill=6), feedback=None)
    env.reset(seed=0)
    accepted = []
    for _ in range(3):
        *_, info = env.step(fakes.deal(env, 4))
        accepted.append((info["rows"]["accepted"], info["rows"]["shortfall"]))
    assert accepted == [(4, {}), (2, {"a": 2}), (0, {"a": 4})]
    assert env.reset(seed=0)[0]["taught"].tolist() == [0, 0]
    assert env.step(fakes.deal(env, 4))[4]["rows"]["accepted"] == 4


# -- the exam ---------------------------------------------------------------------------------------------------------


def test_the_exam_is_never_asked_for(fakes, play):
    env = fakes.make_env(student=fakes.Scripted(shots=2))
    play(env, 0)
    play(env, None)
    assert {split for split, *_ in env.task.asked} == {"feedback", "exemplar"}  # the toy raises at "exam", too


def test_held_out_questions_of_a_data_set_reach_neither_rows_nor_outputs(fakes):
    canary = [p.prompt for p in fakes.FixedToy(per_skill=20).problems("pool", 5, 0)]
    env = fakes.make_env(fakes.FixedToy(per_skill=20, exam=canary), feedback=8)
    out = repr(env.reset(seed=0))
    for _ in range(4):
        out += repr(env.step(fakes.deal(env, 10, 10)))
    assert len(env.situation.taught) == 30  # 2 x 20, less the canaries
    for prompt in canary:
        assert prompt.text not in out
        assert prompt.text not in repr(env.student.lessons)


# -- ends -------------------------------------------------------------------------------------------------------------


def ends(fakes, **options):
    env = fakes.make_env(student=fakes.Scripted(prior=dict.fromkeys("abc", 0.5), half_way=1e-9), **options)
    env.reset(seed=0)
    return env.step(fakes.deal(env, 7, 7, 6))[2:4]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"steps": 2, "max_rows": 99}, (False, False)),
        ({"steps": 1, "max_rows": 99}, (False, True)),
        ({"steps": 2, "max_rows": 20}, (True, False)),
        ({"steps": 1, "max_rows": 20}, (True, True)),
        ({"steps": 2, "max_rows": 99, "target": 1.0}, (True, False)),
        ({"steps": 1, "max_rows": 99, "target": 1.0}, (True, True)),
        ({"steps": 1}, (True, True)),
    ],
)
def test_budget_or_target_terminate_and_the_step_limit_truncates(fakes, options, expected):
    assert ends(fakes, **options) == expected


def test_after_the_end_nothing_happens(fakes):
    env = fakes.make_env(steps=1)
    env.reset(seed=0)
    env.step(fakes.deal(env, 1))
    situation, calls = env.situation, list(env.student.calls)
    for _ in range(2):
        with pytest.raises(EpisodeOver, match=r"over; call reset\(\)"):
            env.step(fakes.deal(env, 1))
    assert env.situation is situation
    assert env.student.calls == calls
    env.reset()
    env.step(fakes.deal(env, 1))


def test_before_reset_and_after_close_a_step_is_refused(fakes):
    env = fakes.make_env()
    with pytest.raises(EpisodeOver, match="reset"):
        env.step(fakes.deal(env, 1))
    env.reset(seed=0)
    env.close()
    env.close()
    assert env.student.closed == 2
    with pytest.raises(EpisodeOver, match="reset"):
        env.step(fakes.deal(env, 1))
    env.reset(seed=0)
    env.step(fakes.deal(env, 1))


# -- failures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("regime", ["continue", "retrain"])
@pytest.mark.parametrize("error", [TrainingFailed("loss is nan"), RuntimeError("boom"), KeyboardInterrupt()])
@pytest.mark.parametrize("where", ["teach", "answer", "version"])
def test_a_student_that_fails_leaves_the_situation_as_it_was(fakes, where, error, regime, play):
    env, twin = fakes.make_env(regime=regime), fakes.make_env(regime=regime)
    for e in (env, twin):
        e.reset(seed=0)
        e.step(fakes.deal(e, 5, 5))
    before, version = env.situation, env.student.version
    env.student.break_in = {where: error}
    with pytest.raises(type(error)):
        env.step(fakes.deal(env, 0, 5, 5))
    env.student.break_in = {}
    assert env.situation is before
    assert env.student.version == version
    play_on = play(env, None, steps=3, reset=False)
    assert play_on == play(twin, None, steps=3, reset=False)


def test_an_engine_that_fails_leaves_the_situation_as_it_was(fakes, play):
    env, twin = fakes.make_env(), fakes.make_env()
    for e in (env, twin):
        e.reset(seed=0)
    write, env.engine.write = env.engine.write, lambda *_: 1 / 0
    before = env.situation
    with pytest.raises(ZeroDivisionError):
        env.step(fakes.deal(env, 5))
    env.engine.write = write
    assert env.situation is before
    assert play(env, None, reset=False) == play(twin, None, reset=False)


def test_a_reset_that_fails_leaves_no_half_episode(fakes, play):
    env = fakes.make_env()
    env.reset(seed=0)
    env.student.break_in = {"answer": RuntimeError("boom")}
    with pytest.raises(RuntimeError):
        env.reset(seed=1)
    with pytest.raises(EpisodeOver):
        env.step(fakes.deal(env, 1))
    env.student.break_in = {}
    assert play(env, 3) == play(fakes.make_env(), 3)


def test_a_task_without_feedback_problems_is_refused(fakes):
    with pytest.raises(InvalidData, match="'toy' has no feedback problems"):
        fakes.make_env(fakes.Toy(empty=True)).reset(seed=0)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"steps": 0}, "steps"),
        ({"steps": 10**20}, "steps"),
        ({"rows": 10**20}, "rows"),
        ({"max_rows": 10**20}, "max_rows"),
        ({"feedback": 10**20}, "feedback"),
        ({"replay": float("inf")}, "replay"),
        ({"replay": 1e9}, "replay"),
        ({"steps": None}, "steps"),
        ({"rows": 2.5}, "rows"),
        ({"rows": "many"}, "rows"),
        ({"rows": None}, "rows"),
        ({"max_rows": -1}, "max_rows"),
        ({"max_rows": float("inf")}, "max_rows"),
        ({"feedback": 0}, "feedback"),
        ({"feedback": float("nan")}, "feedback"),
        ({"regime": "always"}, "regime"),
        ({"replay": -1}, "replay"),
        ({"replay": float("nan")}, "replay"),
        ({"target": float("nan")}, "target"),
        ({"target": 70}, "target"),
        ({"target": "high"}, "target"),
        ({"replay": "much"}, "replay"),
        ({"error": "small"}, "error"),
        ({"error": 1}, "error"),
    ],
)
def test_settings_without_a_meaning_are_refused_by_name(fakes, options, word):
    with pytest.raises(InvalidData, match=f"^{word} must"):
        fakes.make_env(**options)


@pytest.mark.parametrize(
    ("parts", "word"),
    [
        ({"task": None}, "task must be an id or an object"),
        ({"task": object()}, "task must be an id or an object"),
        ({"student": None}, "student must be an id or an object .*; None has no '"),
        ({"student": object()}, "student must be an id or an object .*; this object has no '"),
        ({"engine": object()}, "engine must be an id or an object"),
    ],
)
def test_what_is_no_part_is_refused_before_anything_is_loaded(fakes, parts, word):
    from dataenv.envs.skill_list import SkillListEnv

    with pytest.raises(InvalidData, match=f"^{word}"):
        SkillListEnv(**{"task": fakes.Toy(), "student": fakes.Scripted(), **parts})


def test_skills_of_one_name_are_refused(fakes):
    with pytest.raises(InvalidData, match="the skill 'a' twice"):
        fakes.make_env(fakes.Toy(skills="aba"))


def test_a_student_without_a_report_is_named_and_leaves_the_situation_as_it_was(fakes):
    class Silent(fakes.Scripted):
        def teach(self, examples, *, seed):
            super().teach(examples, seed=seed)

    env = fakes.make_env(student=Silent())
    env.reset(seed=0)
    before = env.situation, env.student.version
    with pytest.raises(
        InvalidData, match=r"^teach\(\) of student 'scripted' must return a TeachReport; it returned None"
    ):
        env.step(fakes.deal(env, 5))
    assert (env.situation, env.student.version) == before


def test_a_task_whose_problems_are_of_other_skills_is_named(fakes):
    class Odd(fakes.Toy):
        def problems(self, split, per_skill, seed):
            return [p.model_copy(update={"skill": "z"}) for p in super().problems(split, per_skill, seed)]

    with pytest.raises(InvalidData, match=r"problems\(\) of task 'toy' .*'z'"):
        fakes.make_env(Odd()).reset(seed=0)


# -- what is odd, but stops nothing -----------------------------------------------------------------------------------


def notes(env, episodes=2):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for seed in range(episodes):
            env.reset(seed=seed)
            env.step(env.action_space.sample())
    return [str(warning.message) for warning in caught if issubclass(warning.category, Note)]


def test_one_skill_is_said_once(fakes):
    (note,) = notes(fakes.make_env(task=fakes.Toy(skills=["a"])))
    assert "one skill" in note


def test_skills_without_feedback_problems_are_said_once(fakes):
    (note,) = notes(fakes.make_env(task=fakes.Toy(unexamined=["b"])))
    assert "1 of 3 skills of 'toy' have no feedback problems, such as 'b'" in note


def limited(fakes, share):
    class Limited(fakes.Scripted):
        """Has no room for the first of its prompts."""

        def answer(self, prompts, **options):
            n = int(share * len(prompts))
            return [[Reply("", "overlong")]] * n + super().answer(prompts[n:], **options)

    return Limited()


@pytest.mark.parametrize("share", [0.6, 1.0])
def test_prompts_that_mostly_do_not_fit_the_context_are_said_once(fakes, share):
    (note,) = notes(fakes.make_env(student=limited(fakes, share)))
    assert f"{int(share * 24)} of 24 feedback prompts of 'toy' do not fit the context of student 'scripted'" in note


def test_a_few_prompts_that_do_not_fit_are_no_matter(fakes):
    assert notes(fakes.make_env(student=limited(fakes, 0.4))) == []


def test_there_is_nothing_to_say_of_a_sound_task(fakes):
    assert notes(fakes.make_env()) == []
