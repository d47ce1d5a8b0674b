"""Every environment teaches every domain: the loop knows none of their names.

Each domain's procedural task is taught to a student made here from scratch, in two small steps.
"""

import gymnasium as gym
import numpy as np
import pytest

import dataenv  # noqa: F401  (registers the environments)
from dataenv.envs import ENVS
from dataenv.records import Plan, Request
from dataenv.students import students
from dataenv.tasks import tasks

DOMAINS = {
    "mathematics": ("drills", "micro", ("addition", "comparison")),
    "code": ("code-drills", "micro", ()),
    "tool use": ("tool-drills", "micro", ("simple", "parallel")),
    "vision": ("scenes", "micro-vision", ()),
}
"""Domain -> its procedural task, the student that learns it in seconds, and two of its skills where that is enough."""
PAIRS = [(id, domain) for id, *_ in ENVS.values() for domain in DOMAINS]


@pytest.fixture(scope="module")
def made():
    """Tasks and students, one of each, as loading them takes longer than a step."""
    built = {}

    def of(domain):
        if domain not in built:
            task, student, skills = DOMAINS[domain]
            built[domain] = (tasks.make(task, **({"skills": skills} if skills else {})), students.make(student))
        return built[domain]

    return of


def env_of(id, made, domain):
    task, student = made(domain)
    return gym.make(
        id, disable_env_checker=True, task=task, student=student, steps=2, rows=2 * len(task.skills), feedback=2
    )


def test_the_domains_are_there():
    assert {task for task, _, _ in DOMAINS.values()} <= tasks.entries().keys()
    assert {student for _, student, _ in DOMAINS.values()} <= students.entries().keys()


@pytest.mark.parametrize(("id", "domain"), PAIRS)
def test_an_episode_of_two_steps(id, domain, made):
    env, (task, student) = env_of(id, made, domain), made(domain)
    observation, info = env.reset(seed=0)
    assert observation in env.observation_space
    untaught, feedback = student.version, info["feedback"]
    assert [score.skill for score in feedback.skills] == list(task.skills) and feedback.n >= len(task.skills)
    assert all(attempt.reason or attempt.finish != "stop" for attempt in feedback.failures)
    plan = Plan(requests=tuple(Request(skill=skill, rows=2) for skill in task.skills))
    for step in (1, 2):
        observation, reward, terminated, truncated, info = env.step(env.unwrapped.action(plan))
        assert observation in env.observation_space
        assert np.isfinite(reward) and info["feedback"].history[-1].error > 0
        assert info["feedback"].history[-1].rows > 0, info["rows"]
        assert (terminated or truncated) == (step == 2)
    assert set(info["feedback"].taught) <= set(task.skills) and student.version != untaught
    env.reset(seed=0)
    assert student.version == untaught


@pytest.mark.parametrize(("id", "domain"), PAIRS)
def test_random_actions_are_taken(id, domain, made):
    env = env_of(id, made, domain)
    env.reset(seed=1)
    env.action_space.seed(1)
    observation, reward, *_ = env.step(env.action_space.sample())
    assert observation in env.observation_space and np.isfinite(reward)
