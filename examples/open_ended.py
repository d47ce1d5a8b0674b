"""OpenEnded by hand: read what the student got wrong, write down what it should be taught."""

import gymnasium as gym

import dataenv  # noqa: F401  (registers the environments)


def main(steps: int = 3, rows: int = 256) -> None:
    env = gym.make("dataenv/OpenEnded-v0", task="drills", student="micro", steps=steps, rows=rows, shown=4)
    observation, info = env.reset(seed=0)
    over = False
    while not over:
        print(f"\naccuracy {observation['accuracy']:.1%} ± {observation['error']:.1%}")
        for failure in observation["failures"]:
            print(f"  {failure['problem']} {failure['response']!r} should be {failure['answer']!r}")
        action = [
            {"exemplar": failure["problem"], "rows": rows // 5}  # more like this one
            for failure in observation["failures"]
        ]
        action += [
            {"instruction": "Turn words around (reversal), easy ones.", "rows": rows // 10},
            {"instruction": "A poem about the sea.", "rows": 1},  # matches no skill: reported, not guessed
            {"prompt": "copy badge=", "completion": "badge"},  # a second time it is a duplicate
        ]
        observation, reward, terminated, truncated, info = env.step(action)
        print(f"  gain {reward:+.3f} ± {info['reward_error']:.3f}; rows by skill: {info['rows']['taught']}")
        print(f"  dropped: {info['rows']['dropped']}, unmatched: {info['unmatched']}")
        over = terminated or truncated
    env.close()


if __name__ == "__main__":
    main()
