"""Train a PPO teacher on the micro student, and compare it with teachers that need no training.

    pip install "dataenv[students,rl]"
    python examples/ppo_teacher.py --steps 4096

Of six drills two can be learnt, two cannot (their answers are drawn by lot) and two are mastered already (any answer
counts). Who finds the first two teaches well. PPO sees and says nothing but numbers: `FlatView`.

Seen on two shared cores with 4,096 steps (12 minutes, 21,000 steps an hour): gain over an episode, mean of 5 seeds ±
standard error, ppo +0.130 ± 0.009, uniform +0.079 ± 0.011, random +0.059 ± 0.012, error-proportional +0.083 ± 0.011.
The default number of steps is a first look: too few to learn much.
"""

import argparse
import time
from zlib import crc32

import gymnasium as gym
import numpy as np
from stable_baselines3 import PPO

from dataenv.agents import teachers
from dataenv.envs.wrappers import FlatView, RewardPerError
from dataenv.records import Verdict
from dataenv.students import make_student
from dataenv.tasks.drills import Drills

LEARNABLE = ("sorting", "descending")
NOISE = ("copying", "reversal")
MASTERED = ("addition", "comparison")
EPISODE = 5


class RiggedDrills(Drills):
    """Drills of which some cannot be learnt and some need not be."""

    def __init__(self):
        super().__init__((*LEARNABLE, *NOISE, *MASTERED))
        self.name = "rigged-drills"

    def problems(self, *args, **options):
        return [self._rigged(problem) for problem in super().problems(*args, **options)]

    def write(self, *args, **options):
        return [self._rigged(problem) for problem in super().write(*args, **options)]

    def recognise(self, prompt):
        problem = super().recognise(prompt)
        return problem and self._rigged(problem)

    def verify(self, problem, response):
        return Verdict(1.0, True) if problem.skill in MASTERED else super().verify(problem, response)

    def _rigged(self, problem):
        lot = str(crc32(problem.prompt.text.encode()) % 1000)
        return problem.model_copy(update={"answer": lot}) if problem.skill in NOISE else problem


def make_env(feedback):
    parts = {"task": RiggedDrills(), "student": make_student("micro", epochs=1)}
    return gym.make("dataenv/SkillList-v0", **parts, steps=EPISODE, rows=96, feedback=feedback, replay=0)


def episode_gain(env, act, seed):
    """Feedback accuracy at the end of one episode minus that at its beginning."""
    observation, info = env.reset(seed=seed)
    before, over = info["feedback"].accuracy, False
    while not over:
        observation, _, terminated, truncated, info = env.step(act(observation, info))
        over = terminated or truncated
    return info["feedback"].accuracy - before


def teacher_gain(env, name, seed):
    teacher = teachers.make(name)
    teacher.reset(seed)
    return episode_gain(env, lambda observation, info: env.unwrapped.action(teacher.act(observation, info)), seed)


def main(steps=512, seeds=5, rollout=128):
    """Train for `steps` environment steps, updating every `rollout`, and compare over `seeds` episodes each."""
    begin = time.perf_counter()
    env = FlatView(RewardPerError(make_env(feedback=16)))
    ppo = PPO(
        "MlpPolicy", env, n_steps=rollout, batch_size=min(64, rollout), learning_rate=1e-3, gamma=0.9, seed=0,
        policy_kwargs={"net_arch": [32], "log_std_init": -0.5}, device="cpu",
    )  # fmt: skip
    ppo.learn(steps)
    hours = (time.perf_counter() - begin) / 3600
    env.close()
    print(f"PPO trained for {ppo.num_timesteps} steps, {ppo.num_timesteps / hours:,.0f} an hour.\n")

    env = make_env(feedback=32)
    flat = FlatView(env)
    unseen = range(1000, 1000 + seeds)
    gains = {"ppo": [episode_gain(flat, lambda seen, _: ppo.predict(seen, deterministic=True)[0], s) for s in unseen]}
    for name in ("uniform", "random", "error-proportional"):
        gains[name] = [teacher_gain(env, name, seed) for seed in unseen]
    print(f"Gain over an episode of {EPISODE} steps, mean of {seeds} seeds ± standard error:")
    for name, values in gains.items():
        print(f"  {name:20} {np.mean(values):+.3f} ± {np.std(values, ddof=1) / np.sqrt(seeds):.3f}")
    env.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=512, help="environment steps to train for")
    parser.add_argument("--seeds", type=int, default=5, help="episodes of each teacher in the comparison, 2 or more")
    main(**vars(parser.parse_args()))
