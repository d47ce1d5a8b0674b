"""SkillTree by hand: grow subskills of every skill, then move rows to the subskills the student is worst at."""

import gymnasium as gym
import numpy as np

import dataenv  # noqa: F401  (registers the environments)

EXPLORE, EXPLOIT = 1, 2


def main(steps: int = 4, rows: int = 120) -> None:
    env = gym.make("dataenv/SkillTree-v0", task="drills:addition,sorting,comparison", steps=steps, rows=rows)
    observation, info = env.reset(seed=0)
    print(f"untaught: {info['feedback'].accuracy:.0%}")
    over = False
    while not over:
        mask = info["action_mask"]
        k, m = mask["change"].shape
        action = {name: np.zeros(k, int) for name in ("move", "grow", "rows")} | {"change": np.zeros((k, m), int)}
        for i in range(k):
            if not mask["change"][i].any():  # no subskills yet
                action["move"][i], action["grow"][i], action["rows"][i] = EXPLORE, 4, rows // k // 4
            else:
                weakness = mask["change"][i] * (1.1 - observation["subskill_accuracy"][i])
                quota = np.floor(rows // k * weakness / weakness.sum()).astype(int)
                action["move"][i], action["change"][i] = EXPLOIT, quota - mask["quota"][i]
        observation, reward, terminated, truncated, info = env.step(action)
        over = terminated or truncated
        print(f"gain {reward:+.3f} ± {info['reward_error']:.3f}, now {info['feedback'].accuracy:.0%}")
    for tree in info["forest"].trees:
        print(tree.skill)
        for s in tree.subskills:
            print(f"    {s.name:30} {s.taught:3} rows taught, {s.quota:2} a step, {s.correct} of {s.n} solved")
    env.close()


if __name__ == "__main__":
    main()
