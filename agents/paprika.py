"""paprika-ucb: curiosity about skills whose outcomes vary much for what they cost."""

from __future__ import annotations

import numpy as np

from dataenv.agents.allocation import AllocationTeacher, Arms, slots_to_shares
from dataenv.agents.formulas import Floats, variation
from dataenv.checks import real, whole
from dataenv.errors import InvalidData

SLOTS = 8
"""Slots of a step (ours)."""
WRONG = 5.0
"""Cost of a wrong answer, where a right one costs 1 (ours; there a cost is the number of turns)."""
BONUS = 1.0
"""Of the exploration bonus (the authors' code)."""


class PaprikaUCB(AllocationTeacher):
    """Slots go one by one to the largest coefficient of variation of an arm's costs plus sqrt(2 ln N / n), where n and
    N count rows, those of this step's slots included; arms that never had rows come first.

    A right answer costs 1, a wrong one `wrong`, so that the score is largest at p = 0.83, not at 0: with `form`
    "accuracy", where the return is the accuracy itself, unsolved skills have the largest.

    Source: PAPRIKA, Training a Generally Curious Agent (2025), https://arxiv.org/abs/2502.17543, and its code; the
    costs are ours.
    """

    name = "paprika-ucb"

    def __init__(self, slots: int = SLOTS, *, bonus: float = BONUS, wrong: float = WRONG, form: str = "cost") -> None:
        self.slots, self.bonus = whole("paprika-ucb: slots", slots), real("paprika-ucb: bonus", bonus, 0)
        self.wrong = real("paprika-ucb: wrong", wrong, 1)
        if form not in ("cost", "accuracy"):
            raise InvalidData(f"paprika-ucb: form must be 'cost' or 'accuracy'; it is {form!r}.")
        self.form = form

    def curiosity(self, arms: Arms) -> Floats:
        """The coefficient of variation by arm; 0 where fewer than two problems were examined."""
        n = np.maximum(arms.n, 2)
        p = arms.correct / np.maximum(arms.n, 1)
        if self.form == "accuracy":
            p = np.maximum(p, 1 / n)
        sd = np.sqrt(p * (1 - p) * n / (n - 1))
        if self.form == "accuracy":
            return variation(p, sd, arms.n)
        return variation(1 + (self.wrong - 1) * (1 - p), (self.wrong - 1) * sd, arms.n)

    def shares(self, arms: Arms) -> Floats:
        score, rows, pulls = self.curiosity(arms), arms.taught.copy(), np.zeros(len(arms.names))
        each = max(arms.feedback.budget.rows_now / self.slots, 1.0)
        for _ in range(self.slots):
            known = self.bonus * np.sqrt(2 * np.log(max(rows.sum(), 1.0)) / np.maximum(rows, 1.0))
            chosen = int(np.argmax(np.where(rows > 0, score + known, np.inf)))
            pulls[chosen] += 1
            rows[chosen] += each
        return slots_to_shares(pulls)
