"""The simulated worlds, and what teachers that are known to be good or bad come to in them."""

import json

import numpy as np
import pytest

from dataenv.benchmarks.challenges import CHALLENGES, KnownGood, followed, made, play, references, score
from dataenv.benchmarks.simulated import WORLDS, SimulatedStudent, SimulatedTask, world
from dataenv.envs.skill_tree import SkillTreeEnv
from dataenv.errors import InvalidData, UnknownId
from dataenv.protocols import ProceduralTask, Student
from dataenv.records import Example
from dataenv.students import make_student
from dataenv.tasks import tasks


def lesson(task, rows, wrong=0):
    """So many rows of each skill, the first `wrong` of them wrong."""
    draws = np.random.default_rng(0)
    made = []
    for skill, n in rows.items():
        made += [Example.from_problem(problem) for problem in task.write(skill, n, None, draws)]
    return [row.model_copy(update={"completion": "no"}) if i < wrong else row for i, row in enumerate(made)]


@pytest.mark.parametrize("name", WORLDS)
def test_task_and_student_are_parts_like_any_other(name):
    task, student = tasks.make(f"simulated:{name}"), make_student(f"simulated:{name}")
    assert isinstance(task, ProceduralTask) and isinstance(student, Student)
    assert len(task.skills) == len(world(name).rates)
    few = task.problems("feedback", 3, 1)
    assert few == task.problems("feedback", 3, 1)
    assert {p.prompt.key for p in few}.isdisjoint(p.prompt.key for p in task.problems("exam", 50, 1))
    assert CHALLENGES.keys() <= WORLDS.keys()


def test_a_world_that_is_none_is_refused():
    with pytest.raises(UnknownId, match="did you mean 'chain'"):
        SimulatedTask("chian")
    with pytest.raises(InvalidData, match="no end"):
        SimulatedTask("chain").problems("feedback", None, 0)


def test_a_student_learns_what_its_world_says_and_wrong_rows_undo_right_ones():
    task, student = SimulatedTask("one-learnable"), SimulatedStudent("one-learnable")
    student.teach(lesson(task, {"s1": 40, "s2": 40}), seed=0)
    assert student.abilities == pytest.approx([0.05 + 0.06 / 2, 0, 0, 0, 1, 1, 1, 1])
    before = student.version
    student.teach(lesson(task, {"s1": 40}, wrong=20), seed=0)
    assert student.abilities[0] == pytest.approx(0.08) and student.version != before
    student.reset()
    assert student.abilities[0] == 0.05
    assert student.teach([], seed=0).rows == 0 and student.lessons == 0


def test_what_is_not_practised_is_forgotten_and_a_chain_holds_back_what_builds_on_it():
    w = world("forgetful")
    assert w.after(np.array(w.start), np.eye(8)[0]) == pytest.approx([0.26, 0.18, 0, 0, 0, 0, 0.88, 0.88])
    assert w.after(np.array(w.start), np.full(8, 1 / 8))[6] == pytest.approx(0.9075)
    c = world("chain")
    assert c.after(np.array(c.start), np.eye(5)[1])[1] == pytest.approx(0.05 + 0.25 * 0.05**2)


@pytest.mark.parametrize("ability", [0.05, 0.5, 0.8])
def test_pass_rates_have_the_ability_for_a_mean_and_the_same_items_stay_solved(ability):
    task, student = SimulatedTask("one-learnable"), SimulatedStudent("one-learnable")
    student.abilities = np.full(8, ability)
    problems = task.problems("pool", 300, 0)
    prompts = [problem.prompt for problem in problems]

    def solved(**options):
        replies = student.answer(prompts, max_new_tokens=8, **options)
        return np.array([[r.text == p.answer for r in few] for few, p in zip(replies, problems, strict=True)], float)

    greedy, sampled = solved(), solved(samples=4, temperature=0.8, seed=1)
    assert greedy.mean() == pytest.approx(ability, abs=0.03)
    assert sampled.mean() == pytest.approx(ability, abs=0.03)
    spread = sampled.mean(axis=1).var() - ability * (1 - ability) / 4 * 0.8  # between items
    assert spread == pytest.approx(ability * (1 - ability) / 5, abs=0.02)
    assert (greedy == solved()).all()
    assert sampled.mean(axis=1)[greedy[:, 0] == 1].mean() > sampled.mean(axis=1)[greedy[:, 0] == 0].mean()


def test_noise_is_drawn_anew_after_each_lesson_and_not_before(tmp_path):
    task, student = SimulatedTask("noisy-distractors"), SimulatedStudent("noisy-distractors")
    prompts = [problem.prompt for problem in task.problems("feedback", 50, 0)]
    first = student.answer(prompts, max_new_tokens=8)
    assert student.answer(prompts, max_new_tokens=8) == first
    student.teach(lesson(task, {"s2": 5}), seed=0)
    assert student.answer(prompts, max_new_tokens=8) != first
    student.save(tmp_path / "kept")
    other = SimulatedStudent("noisy-distractors")
    other.load(tmp_path / "kept")
    assert other.version == student.version
    with pytest.raises(InvalidData, match="simulated:chain"):
        SimulatedStudent("chain").load(tmp_path / "kept")


def test_names_are_swapped_in_the_feedback_only_and_difficulty_counts_in_the_graded_world():
    task = SimulatedTask("misleading-feedback")
    for problem in task.problems("feedback", 2, 0):
        said, true = problem.skill, problem.prompt.text.split()[0]
        assert said == {"s1": "s8", "s8": "s1"}.get(true, true)
    assert all(p.skill == p.prompt.text.split()[0] for p in task.problems("exam", 2, 0))
    graded, student = SimulatedTask("graded"), SimulatedStudent("graded")
    accuracy = [
        np.mean(
            [
                student.answer([p.prompt], max_new_tokens=8)[0][0].text == p.answer
                for p in graded.write("s1", 200, d, np.random.default_rng(0))
            ]
        )
        for d in (0.15, 0.85)
    ]
    assert accuracy[0] > 0.5 and accuracy[1] < 0.05  # what easy-only and hard-only would meet


# -- teachers in them -------------------------------------------------------------------------------------------------

SHORT = {"feedback": 50, "steps": 20}


@pytest.mark.parametrize(
    ("id", "least", "most"),
    [
        ("error-proportional", 0.15, 0.3),
        ("lp-bandit", 0.7, 0.83),
        ("sec", 0.5, 0.9),
        ("dump-ucb", 0.5, 1.0),
        ("exp3s", 0.4, 1.0),
        ("thompson", 0.5, 1.0),
        ("paprika-ucb", 0.6, 1.0),
    ],
)
def test_bandits_find_the_one_skill_that_can_be_learnt(id, least, most):
    """Shares of the catalogue's own simulation: 0.19, 0.82, 0.65, 0.70, 0.51, 0.56, 0.80."""
    assert least <= followed(play(id, made("one-learnable", **SHORT), 0)) <= most


@pytest.mark.parametrize(("id", "most"), [("sec", 0.06), ("dump-ucb", 0.06), ("paprika-ucb", 0.08)])
def test_what_looks_for_spread_is_lost_where_answers_are_noise(id, most):
    """As the catalogue says: 0.02, 0.03 and 0.05 of the rows on the one skill that can be learnt; uniform 0.125."""
    assert play(id, made("noisy-distractors", **SHORT), 0).shares[:, 0].mean() < most


def test_the_graph_of_skills_pays_in_a_chain():
    steps = {}
    for id in ("uniform", "mastering-rate"):
        played = play(id, made("chain", feedback=20, steps=70), 0)
        steps[id] = int(np.argmax(played.abilities.mean(axis=1) >= 0.9)) or 70
        if id == "mastering-rate":
            assert played.shares[0, 0] > 0.5
            modes = played.shares.argmax(axis=1)
            assert set(modes) >= {0, 1, 2} and (np.diff(np.unique(modes, return_index=True)[1]) > 0).all()
    assert steps["mastering-rate"] < 0.75 * steps["uniform"]


def test_uniform_scores_0_and_the_known_good_policy_1():
    env = made("tiny-budget")
    low, high = references("tiny-budget", 0)
    assert play(KnownGood(env.student), env, 0).gain == high > low
    assert score("uniform", "tiny-budget") == pytest.approx(0)
    assert 0 < score("paprika-ucb", "mostly-mastered") <= 1.01
    assert all(np.greater(*references(name, 0)[::-1]) for name in CHALLENGES)


def test_a_challenge_is_the_same_every_time_and_in_a_tree(monkeypatch):
    one, two = (play("thompson", made("forgetful", steps=4), 1) for _ in range(2))
    assert json.dumps(one.rows.tolist()) == json.dumps(two.rows.tolist())
    assert play("sec", made("forgetful", SkillTreeEnv, steps=4), 1).rows.sum() > 0


def test_three_rows_of_ten_are_wrong_with_the_noisy_engine():
    env = made("noisy-engine", steps=3)
    play("uniform", env, 0)
    taught = env.situation.taught
    wrong = [row.completion != ":".join(row.prompt.text.split()[:2]) for row in taught]
    assert len(taught) == 240 and abs(np.mean(wrong) - 0.3) < 0.09
