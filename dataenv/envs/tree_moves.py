"""The action space of SkillTree: a move for each skill, together within a step's rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium.spaces import Space
from numpy.typing import NDArray

from dataenv.spaces import EXPLOIT, EXPLORE, MOVES, WAIT, Prose, allocate

Arrays = dict[str, NDArray[Any]]

WORDS = Prose(4096)
"""What may be said of one skill's rows."""


class TreeMoves(Space[Arrays]):
    """What `SkillTree` takes as an action now (K skills, at most M subskills each): a dict of whole numbers,

    * `move` (K,): 0 wait, 1 explore, 2 exploit.
    * `grow` (K,), `rows` (K,): how many subskills an explore grows, and the quota of each of them.
    * `change` (K, M): what an exploit adds to each quota. Below 0 or above the most rows of a subskill, a quota stops
      there, so the lowest change prunes.
    * `words`, which may be left out: K texts (`WORDS`), "" for none, that go with the requests of a moving skill to
      engines that read, as the errors that its rows are to be about.

    Entries that a move does not use are ignored, but must be within bounds. The quotas of all moving skills after the
    action add up to at most `budget`, where a skill counts with no more than the rows it may still get.

    What is possible changes with the trees, so the space knows `limits`, which the environment sets after each `reset`
    and `step`, and gives out as `info["action_mask"]`: `move` (K, 3) and `change` (K, M), 1 where possible; `grow` and
    `rows` (K,), the most possible; `quota` (K, M) as they stand; `left` (K,), rows each skill may still get. `sample`
    and `contains` go by them. Two cases want `sample(mask=info["action_mask"])`: a vector of environments, whose spaces
    are copies that no environment sets; and a space that was seeded in mid-episode, since `seed` goes back to the
    start of an episode, the one for which a checker that seeds, samples and then resets wants its action.
    """

    def __init__(
        self,
        skills: Sequence[str],
        subskills: int,
        new: int,
        rows: int,
        budget: int,
        left: int,
        seed: int | np.random.Generator | None = None,
    ) -> None:
        """`subskills`: M. `new`: most that an explore grows. `rows`: highest quota. `left`: rows of a skill in all."""
        self.skills = tuple(skills)
        self.subskills, self.new, self.rows, self.budget, self.left = subskills, new, rows, budget, left
        self.limits = self._first_limits()
        super().__init__(None, None, seed)

    @property
    def is_np_flattenable(self) -> bool:
        return False  # a flat Box could say nothing of the budget

    def seed(self, seed: Any = None) -> Any:
        """Seed the draws, and go back to the limits of an episode's start; see above."""
        self.limits = self._first_limits()
        return super().seed(seed)

    def sample(self, mask: Mapping[str, Any] | None = None, probability: None = None) -> Arrays:
        """Moves drawn uniformly from the possible ones, and a step's rows dealt to the moving skills at random.

        `mask` takes the place of `limits`, and may allow less. A skill whose share of the rows does not cover the
        quotas it has exploits instead of exploring, or waits.
        """
        limits = self.limits if mask is None else mask
        action, rng = self.waiting(), self.np_random
        for i, possible in enumerate(limits["move"]):
            places = np.flatnonzero(possible)
            action["move"][i] = rng.choice(places) if places.size else WAIT
        moving = np.flatnonzero(action["move"])
        for i, share in zip(moving.tolist(), _dealt(rng, moving.size, self.budget).tolist(), strict=True):
            quotas = limits["quota"][i]
            spare = share - int(quotas.sum())
            if action["move"][i] == EXPLORE and spare < 0:
                action["move"][i] = EXPLOIT if limits["move"][i][EXPLOIT] else WAIT
            if action["move"][i] == EXPLORE:
                n = int(rng.integers(1, min(limits["grow"][i], max(spare, 1)) + 1))
                action["grow"][i] = n
                action["rows"][i] = rng.integers(min(spare // n, 1), min(spare // n, limits["rows"][i]) + 1)
            elif action["move"][i] == EXPLOIT:
                places = np.flatnonzero(limits["change"][i])
                wanted = _dealt(rng, places.size, int(rng.integers(share + 1)))
                action["change"][i, places] = np.minimum(wanted, limits["rows"][i]) - quotas[places]
        return action

    def contains(self, x: Any) -> bool:
        return self.fault(x, self.limits) is None

    def fault(self, x: Any, limits: Mapping[str, Any]) -> str | None:
        """Why `x` is no action under `limits`, as words that follow "action"; None when it is one."""
        shape = (len(self.skills),)
        bounds = {
            "move": (shape, 0, len(MOVES) - 1),
            "grow": (shape, 0, self.new),
            "rows": (shape, 0, self.rows),
            "change": ((*shape, self.subskills), -self.rows, self.rows),
        }
        if not isinstance(x, Mapping) or set(x) - {"words"} != set(bounds):
            got = sorted(map(str, x)) if isinstance(x, Mapping) else type(x).__name__
            return f" is a dict with move, grow, rows and change; got {got}"
        for name, bound in bounds.items():
            if fault := _array_fault(x[name], *bound):
                return f"['{name}']{fault}"
        if "words" in x and (fault := self._words_fault(x["words"])):
            return f"['words']{fault}"
        action = {name: np.asarray(x[name]).astype(np.int64) for name in bounds}
        for i, (skill, move) in enumerate(zip(self.skills, action["move"].tolist(), strict=True)):
            if not limits["move"][i][move]:
                return f"['move'][{i}]: '{skill}' cannot {MOVES[move]} now; {self._reason(i, limits)}"
            if move == EXPLORE and not 1 <= action["grow"][i] <= limits["grow"][i]:
                most = limits["grow"][i]
                return f"['grow'][{i}] is {action['grow'][i]}; '{skill}' can grow 1 to {most} subskills now"
            missing = np.flatnonzero(action["change"][i] * (limits["change"][i] == 0))
            if move == EXPLOIT and missing.size:
                return f"['change'][{i}, {missing[0]}]: '{skill}' has no such subskill; only those it has can change"
        asked = int(self.asked(action, limits).sum())
        if asked > self.budget:
            return f" asks for {asked} rows, all quotas of the moving skills; a step has at most {self.budget}"
        return None

    def quotas(self, action: Mapping[str, Any], limits: Mapping[str, Any]) -> NDArray[np.int64]:
        """(K, M): the quotas of the subskills that exist, after the action."""
        exploits = (np.asarray(action["move"]) == EXPLOIT)[:, None] * limits["change"]
        changed: NDArray[np.int64] = np.where(exploits, limits["quota"] + np.asarray(action["change"]), limits["quota"])
        return np.clip(changed, 0, self.rows).astype(np.int64)

    def asked(self, action: Mapping[str, Any], limits: Mapping[str, Any]) -> NDArray[np.int64]:
        """(K,): the rows the action asks for."""
        move = np.asarray(action["move"])
        grown = (move == EXPLORE) * np.asarray(action["grow"]) * np.asarray(action["rows"])
        total = np.minimum(self.quotas(action, limits).sum(axis=1) + grown, limits["left"])
        asked: NDArray[np.int64] = np.where(move == WAIT, 0, total).astype(np.int64)
        return asked

    def waiting(self) -> Arrays:
        """The action in which every skill waits."""
        k = len(self.skills)
        return {
            **{name: np.zeros(k, np.int64) for name in ("move", "grow", "rows")},
            "change": np.zeros((k, self.subskills), np.int64),
        }

    def to_jsonable(self, sample_n: Iterable[Arrays]) -> list[Any]:
        return [
            {name: list(value) if name == "words" else np.asarray(value).tolist() for name, value in sample.items()}
            for sample in sample_n
        ]

    def from_jsonable(self, sample_n: list[Any]) -> list[Arrays]:
        return [
            {name: value if name == "words" else np.asarray(value, np.int64) for name, value in sample.items()}
            for sample in sample_n
        ]

    def __repr__(self) -> str:
        return f"TreeMoves({len(self.skills)} skills, subskills={self.subskills}, budget={self.budget})"

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, TreeMoves)
            and (self.skills, self.subskills, self.new, self.rows, self.budget, self.left)
            == (other.skills, other.subskills, other.new, other.rows, other.budget, other.left)
            and all(np.array_equal(self.limits[name], other.limits[name]) for name in self.limits)
        )

    def _first_limits(self) -> Arrays:
        """No subskill exists: every skill may wait or explore."""
        k, m = len(self.skills), self.subskills
        return {
            "move": np.tile(np.array([1, 1, 0], np.int8), (k, 1)),
            "grow": np.full(k, min(self.new, m), np.int64),
            "rows": np.full(k, self.rows, np.int64),
            "change": np.zeros((k, m), np.int8),
            "quota": np.zeros((k, m), np.int64),
            "left": np.full(k, self.left, np.int64),
        }

    def _words_fault(self, words: Any) -> str | None:
        """Why `words` is no text for each skill."""
        if not isinstance(words, list | tuple) or len(words) != len(self.skills):
            return f" must be a list of {len(self.skills)} texts, one for each skill"
        faults = ((i, WORDS.fault(text)) for i, text in enumerate(words))
        return next((f"[{i}] {fault}" for i, fault in faults if fault is not None), None)

    def _reason(self, i: int, limits: Mapping[str, Any]) -> str:
        """Why a move of skill `i` is not possible."""
        if limits["left"][i] == 0:
            return f"it has had all its {self.left} rows"
        if not limits["change"][i].any() and limits["grow"][i]:
            return "it has no subskills yet: explore first"
        return f"it has {int(limits['change'][i].sum())} subskills and can get no more"


def _dealt(rng: np.random.Generator, n: int, rows: int) -> NDArray[np.int64]:
    """`rows` dealt to `n` in uniformly drawn proportions."""
    return allocate(rng.dirichlet(np.ones(n)), rows) if n else np.zeros(0, np.int64)


def _array_fault(value: Any, shape: tuple[int, ...], low: int, high: int) -> str | None:
    """Why `value` is no array of whole numbers of this shape within [low, high]."""
    try:
        array = np.asarray(value)
    except ValueError:  # ragged
        return " is not an array of numbers"
    if array.dtype.kind not in "iuf":
        return f" holds {array.dtype} values; they must be whole numbers"
    if array.shape != shape:
        return f" has shape {array.shape}; it must be {shape}"
    wrong = np.argwhere(~((array >= low) & (array <= high) & (array == np.floor(array))))
    if wrong.size:
        place = tuple(wrong[0].tolist())
        return f"[{', '.join(map(str, place))}] is {array[place]}; it must be a whole number in [{low}, {high}]"
    return None
