"""The paper's hand-written teachers for SkillTree: each skill explores, exploits or waits by a rule of its own.

Source: the policies of DataEnvGym (2024). There every skill has rows without limit; here the skills share a step's
rows, so what they wish for is scaled down to fit (`TreeTeacher.fitted`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dataenv.agents.teacher import BaseTeacher
from dataenv.checks import real, whole
from dataenv.errors import InvalidData
from dataenv.records import Transition
from dataenv.spaces import EXPLOIT, EXPLORE, allocate

THRESHOLD = 0.01
"""Gain of a skill above which it need not explore (as in the authors' code)."""


class Leaves(NamedTuple):
    """One skill as a rule sees it. Arrays have an entry for each subskill it has."""

    skill: int
    can_explore: bool
    grow: int
    """Most subskills an explore can grow."""
    quota: NDArray[np.int64]
    taught: NDArray[np.int64]


class Wish(NamedTuple):
    """What a rule wants for one skill: new subskills with `rows` each, or (grow = 0) these quotas."""

    quota: NDArray[np.int64]
    grow: int = 0
    rows: int = 0


class TreeTeacher(BaseTeacher):
    """A rule for one skill that can move, applied to each. The first move of a skill is always to explore.

    `new` subskills with `rows` rows each are what an explore wishes for.
    """

    environments = ("skill-tree",)

    def __init__(self, new: int = 5, rows: int = 10) -> None:
        self.new, self.rows = whole(f"{self.name}: new", new), whole(f"{self.name}: rows", rows)

    def wish(self, leaves: Leaves, step: int) -> Wish | None:
        """What the skill shall do in the step after `step` finished ones; None to wait."""
        raise NotImplementedError

    def explore(self, leaves: Leaves) -> Wish:
        return Wish(leaves.quota, min(self.new, leaves.grow), self.rows)

    def act(self, observation: Any, info: Mapping[str, Any]) -> dict[str, NDArray[np.int64]]:
        mask = info["action_mask"]
        wishes: dict[int, Wish] = {}
        for i, (can_explore, can_exploit) in enumerate(mask["move"][:, EXPLORE:].astype(bool).tolist()):
            has = mask["change"][i].astype(bool)
            leaves = Leaves(
                i, can_explore, int(mask["grow"][i]), mask["quota"][i][has], observation["subskill_taught"][i][has]
            )
            if can_explore and not can_exploit:
                wishes[i] = self.explore(leaves)
            elif can_exploit and (wish := self.wish(leaves, info["feedback"].step)) is not None:
                wishes[i] = wish
        return fitted(wishes, mask, info["feedback"].budget.rows_now)


class Alternating(TreeTeacher):
    """Explore in even steps; in odd ones exploit, with equal quotas (`rows`) for all subskills. A skill that can grow
    no more exploits in every step."""

    name = "tree-alternating"

    def wish(self, leaves: Leaves, step: int) -> Wish:
        if step % 2 == 0 and leaves.can_explore:
            return self.explore(leaves)
        return Wish(np.full_like(leaves.quota, self.rows))


class FillBalanced(TreeTeacher):
    """Explore until the tree can grow no more, then give each subskill what it lacks of `target` rows; full ones
    nothing. Where a quota would carry a subskill past the target while the tree still grows, it is cut first."""

    name = "tree-fill-balanced"

    def __init__(self, new: int = 5, rows: int = 10, target: int = 100) -> None:
        super().__init__(new, rows)
        self.target = whole(f"{self.name}: target", target)
        if self.target < self.rows:
            raise InvalidData(f"{self.name}: target must be at least rows, {rows}; it is {target}.")

    def wish(self, leaves: Leaves, step: int) -> Wish | None:
        lacking = np.maximum(self.target - leaves.taught, 0)
        if leaves.can_explore and (leaves.quota <= lacking).all():
            return self.explore(leaves)
        return Wish(lacking) if lacking.any() or leaves.can_explore else None


class RandomTree(TreeTeacher):
    """Control without state. A fair coin: explore 1 to 3 new subskills with 1 to 10 rows, or change the quota of a
    random subskill by 10 rows up or down. At most `active` subskills have a quota."""

    name = "tree-random"

    def __init__(self, new: int = 3, rows: int = 10, active: int = 10) -> None:
        super().__init__(new, rows)
        self.active = whole(f"{self.name}: active", active, least=0)

    def explore(self, leaves: Leaves) -> Wish:
        most = min(self.new, leaves.grow, max(self.active - int(np.count_nonzero(leaves.quota)), 1))
        return Wish(leaves.quota, int(self.rng.integers(1, most + 1)), int(self.rng.integers(1, self.rows + 1)))

    def wish(self, leaves: Leaves, step: int) -> Wish:
        room = np.count_nonzero(leaves.quota) < self.active
        if self.rng.random() < 0.5 and leaves.can_explore and room:
            return self.explore(leaves)
        quota = leaves.quota.copy()
        chosen = int(self.rng.integers(len(quota)))
        change = self.rows if self.rng.random() < 0.5 else -self.rows
        if change < 0 or quota[chosen] or room:
            quota[chosen] = max(quota[chosen] + change, 0)
        return Wish(quota)


class Threshold(TreeTeacher):
    """A skill whose last gain is above `threshold` exploits: `more` rows for the subskill whose accuracy rose most in
    that step (the first of equal ones). Otherwise it explores; where it cannot, its quotas stay. A skill that is not
    examined has no gain."""

    name = "tree-threshold"

    def __init__(self, new: int = 5, rows: int = 10, threshold: float = THRESHOLD, more: int = 10) -> None:
        super().__init__(new, rows)
        self.threshold = real(f"{self.name}: threshold", threshold, -1.0, 1.0)
        self.more = whole(f"{self.name}: more", more)

    def reset(self, seed: int) -> None:
        super().reset(seed)
        self.risen: dict[str, int] = {}
        """Skill -> subskill that rose most, for skills whose last gain is above the threshold."""

    def observe(self, transition: Transition) -> None:
        known = transition.observation["subskill_examined"] > 0
        before, after = transition.observation["subskill_accuracy"], transition.next_observation["subskill_accuracy"]
        most = np.argmax(np.where(known, after - before, 0.0), axis=1)
        scores = transition.info["feedback"].skills
        gains = transition.info["skill_gain"]
        self.risen = {str(i): int(most[i]) for i, s in enumerate(scores) if gains.get(s.skill, 0.0) > self.threshold}

    def wish(self, leaves: Leaves, step: int) -> Wish:
        chosen = self.risen.get(str(leaves.skill))
        if chosen is None:
            return self.explore(leaves) if leaves.can_explore else Wish(leaves.quota)
        quota = leaves.quota.copy()
        quota[chosen] += self.more
        return Wish(quota)


def fitted(wishes: Mapping[int, Wish], mask: Mapping[str, Any], rows: int) -> dict[str, NDArray[np.int64]]:
    """The action that carries out `wishes` (by skill) within `rows` in all and the rows each skill may still get.

    The quotas that exploring skills keep are paid first; what is left is dealt to the other wishes in proportion.
    Where even the first is too much, all skills exploit, scaled down alike. An explore that gets no rows grows all the
    same: its subskills have no quota yet, but are examined.
    """
    k, m = mask["change"].shape
    action = {"move": np.zeros(k, np.int64), "grow": np.zeros(k, np.int64), "rows": np.zeros(k, np.int64)}
    action["change"] = np.zeros((k, m), np.int64)
    left = {i: int(mask["left"][i]) for i in wishes}
    kept = {i: min(int(w.quota.sum()), left[i]) for i, w in wishes.items() if w.grow}
    if sum(kept.values()) > rows:
        wishes, kept = {i: Wish(w.quota) for i, w in wishes.items()}, {}
    new = {
        i: min(w.grow * w.rows if w.grow else int(w.quota.sum()), left[i] - kept.get(i, 0)) for i, w in wishes.items()
    }
    spare = rows - sum(kept.values())
    if sum(new.values()) > spare:
        new = dict(zip(new, allocate(list(new.values()), spare).tolist(), strict=True))
    for i, wish in wishes.items():
        if wish.grow:
            each = min(new[i] // wish.grow, int(mask["rows"][i]))
            grow = wish.grow if each or not new[i] else new[i]
            action["move"][i], action["grow"][i], action["rows"][i] = EXPLORE, grow, each or min(new[i], 1)
        else:
            quota = wish.quota if wish.quota.sum() <= new[i] else allocate(wish.quota, new[i])
            n = len(quota)
            action["move"][i] = EXPLOIT
            action["change"][i, :n] = np.minimum(quota, mask["rows"][i]) - mask["quota"][i][:n]
    return action
