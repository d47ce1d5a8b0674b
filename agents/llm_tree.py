"""The paper's Skill-Tree teacher: a language model decides for each skill whether to explore, exploit or wait."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dataenv.agents.llm import LLMTeacher, Unusable, form, whole_rows
from dataenv.agents.llm_skill_list import told
from dataenv.agents.tree import Wish, fitted
from dataenv.chat.templates import prompts
from dataenv.checks import whole
from dataenv.errors import InvalidData
from dataenv.records import Attempt, Feedback, Transition
from dataenv.spaces import EXPLORE, MOVES, plain

MOVES_SHOWN = 5
PASSED_ON = 3
"""Errors of a skill that the engine is told of."""
LENGTHS = (600, 300, 150)
"""Bytes of problem, answer and right answer of each, at most: engines show a model 4,000 characters of a request."""

SCHEMA = form(
    {
        "reasoning": {"type": "string"},
        "move": {"type": "string", "enum": list(MOVES)},
        "new": {"type": "number"},
        "rows": {"type": "number"},
        "quotas": {"type": "array", "items": form({"subskill": {"type": "string"}, "rows": {"type": "number"}})},
    }
)


class SkillTreeLLM(LLMTeacher):
    """One question for each skill that can move, all at once: shown are the skill's score, its subskills with quotas,
    rows taught and accuracy, up to `errors` wrong answers, its last moves and what it gained, and the budget. The model
    answers with a move; a skill without subskills explores unasked, `new` ones with `rows` rows each. Up to three of
    the wrong answers go with the skill's requests, for engines that read; where no errors are shown, there are none.

    A subskill that it leaves out keeps its quota, one that is not there is refused and counted. Wishes beyond the
    step's rows are scaled down together (`tree.fitted`). Where an answer cannot be used, the skill's quotas stay.

    Source: the Skill-Tree agents of DataEnvGym (2024), which ask for each skill by itself, too.
    """

    name = "skill-tree-llm"
    environments = ("skill-tree",)

    def __init__(self, new: int = 5, rows: int = 10, errors: int = 4, **options: Any) -> None:
        super().__init__(errors=errors, **options)
        self.new, self.rows = whole(f"{self.name}: new", new), whole(f"{self.name}: rows", rows)

    def reset(self, seed: int) -> None:
        super().reset(seed)
        self.moves: dict[str, list[dict[str, Any]]] = {}
        """Skill -> its last moves: step, move in words, and what the skill gained (None where it is not known)."""

    def act(self, observation: Any, info: Mapping[str, Any]) -> dict[str, Any]:
        if "forest" not in info:
            raise InvalidData(
                f"{self.name} moves in trees of subskills, which this environment has not; use skill-tree."
            )
        feedback: Feedback = info["feedback"]
        mask, trees = info["action_mask"], info["forest"].trees
        budget = feedback.budget.rows_now
        can = mask["move"][:, EXPLORE:].astype(bool).tolist()
        moving = [i for i, possible in enumerate(can) if any(possible)]
        asked = [i for i in moving if can[i][1]]
        quotas = {i: np.array([s.quota for s in trees[i].subskills], np.int64) for i in moving}
        failed = [[one for one in feedback.failures if one.problem.skill == tree.skill] for tree in trees]
        shown = {i: failed[i][: self.errors] for i in moving}

        def prompt(i: int) -> str:
            shown[i] = [failed[i][n] for n in self.rng.permutation(len(failed[i]))[: self.errors]]
            return prompts.render(
                "skill-tree-llm/move",
                feedback=feedback,
                past=self.past(feedback),
                skill=trees[i].skill,
                score=feedback.skills[i],
                share=budget // len(moving),
                left=int(mask["left"][i]),
                subskills=trees[i].subskills,
                moves=self.moves.get(trees[i].skill, []),
                failures=told(shown[i]),
                failed=len(failed[i]),
                grow=int(mask["grow"][i]) if can[i][0] else 0,
                most=int(mask["rows"][i]),
            )

        def read(n: int, data: Any, mended: list[str]) -> Wish | None:
            i = asked[n]
            if data["move"] == "wait":
                return Wish(np.zeros(0, np.int64))
            if data["move"] == "explore":
                if not can[i][0]:
                    raise Unusable("The skill can get no more subskills.")
                (new,), (rows,) = (
                    whole_rows([data["new"]], int(mask["grow"][i]), mended),
                    whole_rows([data["rows"]], int(mask["rows"][i]), mended),
                )
                return Wish(quotas[i], max(new, 1), rows)
            names, wanted = list(trees[i].names), quotas[i].copy()
            for entry in data["quotas"]:
                if (name := self.found(entry["subskill"], names, mended)) is not None:
                    (wanted[names.index(name)],) = whole_rows([entry["rows"]], int(mask["rows"][i]), mended)
            return Wish(wanted)

        found = dict(zip(asked, self.consult([(trees[i].skill, prompt(i)) for i in asked], SCHEMA, read), strict=True))
        wishes: dict[int, Wish] = {}
        for i in moving:
            if i not in found:
                wishes[i] = Wish(quotas[i], min(self.new, int(mask["grow"][i])), self.rows)
            elif (wish := found[i]) is None:
                wishes[i] = Wish(quotas[i])
            elif wish.quota.size:
                wishes[i] = wish
        action: dict[str, Any] = {**fitted(wishes, mask, budget)}
        if any(shown.values()):
            action["words"] = [mistakes(shown.get(i, ())) for i in range(len(trees))]
        for i in moving:
            self._remember(feedback.step + 1, trees[i].skill, MOVES[action["move"][i]], action, i)
        return action

    def _remember(self, step: int, skill: str, move: str, action: Mapping[str, Any], i: int) -> None:
        if move == "explore":
            move += f", {action['grow'][i]} new with {action['rows'][i]} rows each"
        elif move == "exploit":
            changed = int(np.count_nonzero(action["change"][i]))
            move += f", {changed} quotas changed by {int(action['change'][i].sum()):+d} rows in all"
        self.moves[skill] = [*self.moves.get(skill, []), {"step": step, "move": move, "gain": None}][-MOVES_SHOWN:]

    def observe(self, transition: Transition) -> None:
        gains = transition.info["skill_gain"]
        for skill, moves in self.moves.items():
            if moves[-1]["step"] == transition.info["feedback"].step and skill in gains:
                moves[-1]["gain"] = float(gains[skill])


def mistakes(attempts: Sequence[Attempt]) -> str:
    """What an engine is told of a student's wrong answers; "" where there are none."""
    if not attempts:
        return ""
    parts = ["The student got these problems wrong; write others that need what it lacks, none of these:"]
    for one in told(list(attempts[:PASSED_ON])):
        problem, response, answer = map(plain, (one["problem"], one["response"], one["answer"]), LENGTHS)
        parts.append(f"problem: {problem}\nthe student's answer: {response}\nthe right answer: {answer}")
    return "\n\n".join(parts)
