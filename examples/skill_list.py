"""SkillList by hand: look at the accuracy of each skill, deal rows to the weak ones."""

import gymnasium as gym
import numpy as np

import dataenv  # noqa: F401  (registers the environments)


def main(steps: int = 3, rows: int = 256) -> None:
    env = gym.make("dataenv/SkillList-v0", task="drills", student="micro", steps=steps, rows=rows)
    skills = env.unwrapped.task.skills
    observation, info = env.reset(seed=0)
    over = False
    while not over:
        print(f"\n{'skill':15} accuracy        rows taught")
        for skill, p, error, taught in zip(
            skills, *(observation[k] for k in ("accuracy", "error", "taught")), strict=True
        ):
            print(f"{skill:15} {p:5.0%} ± {error:3.0%} {taught:15}")
        rows_left, steps_left = observation["budget"]
        print(f"left: {rows_left} rows, {steps_left} steps")
        weakness = 1 - observation["accuracy"]
        action = {
            "rows": np.floor(rows * weakness / weakness.sum()).astype(int),
            "difficulty": np.full(len(skills), -1.0),  # the task's natural mix; or from 0, easiest, to 1, hardest
        }
        observation, reward, terminated, truncated, info = env.step(action)
        print(f"gain {reward:+.3f} ± {info['reward_error']:.3f}; dropped: {info['rows']['dropped']}")
        over = terminated or truncated
    print(f"accuracy at the end: {info['feedback'].accuracy:.1%} ± {info['feedback'].error:.1%}")
    env.close()


if __name__ == "__main__":
    main()
