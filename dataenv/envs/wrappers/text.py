"""The state as Markdown, for agents that read. What a student wrote is quoted as data and cannot leave its quotes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import chain, zip_longest
from typing import Any, cast

import gymnasium as gym
from gymnasium.utils import RecordConstructorArgs

from dataenv.envs.teaching import TeachingEnv
from dataenv.records import Attempt, Feedback, Past, Plan, SkillScore
from dataenv.skills.tree import Subskill
from dataenv.spaces import Prose, plain


class TextView(gym.Wrapper[str, Any, Any, Any], RecordConstructorArgs):
    """The observation is one Markdown text of at most `max_bytes` bytes (space `Prose`): budget, a table of the skills
    (and of the subskills, where there are any) with accuracy, standard error and rows taught, the steps so far, and
    failed problems with response and right answer.

    The action is the environment's own, or a `Plan`, which becomes one by the environment's `action`.

    Args:
        failures: how many failed problems are shown, spread over the skills, in the order they were asked.
        text_bytes: most bytes of each problem, response and answer.
        max_bytes: of the whole text. What does not fit is left out, and the text says how much of it there is.

    Problems, responses and answers stand in fences longer than any run of backticks in them, without control
    characters; whoever shows the text to a language model should still tell it that they are data.
    """

    def __init__(
        self, env: gym.Env[Any, Any], failures: int = 8, text_bytes: int = 1024, max_bytes: int = 32_768
    ) -> None:
        RecordConstructorArgs.__init__(self, failures=failures, text_bytes=text_bytes, max_bytes=max_bytes)
        gym.Wrapper.__init__(self, env)
        self.failures, self.text_bytes, self.max_bytes = failures, text_bytes, max_bytes
        self.observation_space = Prose(max_bytes)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        _, info = self.env.reset(seed=seed, options=options)
        return self._written(info), info

    def step(self, action: Any) -> tuple[str, Any, bool, bool, dict[str, Any]]:
        inner = cast(TeachingEnv[Any, Any], self.env.unwrapped)
        _, reward, terminated, truncated, info = self.env.step(
            inner.action(action) if isinstance(action, Plan) else action
        )
        return self._written(info), reward, terminated, truncated, info

    def _written(self, info: Mapping[str, Any]) -> str:
        feedback: Feedback = info["feedback"]
        scores = [_row(*_score(score), feedback.taught[score.skill]) for score in feedback.skills]
        text = _head(feedback) + _table("Skills", "skill, solved, accuracy, rows taught", scores, self.max_bytes // 3)
        leaves = (
            [(tree.skill, leaf) for tree in info["forest"].trees for leaf in tree.subskills] if "forest" in info else []
        )
        if leaves:
            columns = "skill, subskill, quota, solved, accuracy, rows taught"
            rows = [_row(skill, leaf.name, leaf.quota, *_score(leaf)[1:], leaf.taught) for skill, leaf in leaves]
            text += _table("Subskills", columns, rows, self.max_bytes // 4)
        if feedback.history:
            columns = "step, rows taught, dropped, reward, standard error"
            rows = [_step(number, past, feedback.n > 0) for number, past in enumerate(feedback.history, 1)]
            text += _table("Steps so far, the last first", columns, rows[::-1], self.max_bytes // 8)
        shown, quotes = 0, ""
        for attempt in _spread(feedback.failures)[: self.failures]:
            quote = _quoted(attempt, self.text_bytes)
            if len((text + quotes + quote).encode()) + 60 > self.max_bytes:
                break
            shown, quotes = shown + 1, quotes + quote
        if feedback.failures:
            text += f"\n## Failed problems ({shown} of {len(feedback.failures)})\n{quotes}"
        return plain(text, self.max_bytes)


def _head(feedback: Feedback) -> str:
    budget = feedback.budget
    solved = f"{_share(feedback.accuracy, feedback.error)} of {feedback.n}" if feedback.n else "an unknown share of the"
    return (
        f"# The student after step {feedback.step}\n\nIt solves {solved} feedback problems.\n"
        f"Left are {budget.steps_left} steps and {budget.rows_left} rows; the next step can have {budget.rows_now}.\n"
    )


def _step(number: int, past: Past, known: bool) -> str:
    """A row for a finished step; `known` is false where HideFeedback keeps back how the student does."""
    dropped = ", ".join(f"{n} {reason}" for reason, n in past.dropped.items()) or "none"
    gain = [f"{past.reward:+.3f}", f"{past.error:.3f}"] if known else ["unknown", "unknown"]
    return _row(number, f"{past.rows} of {past.asked}", dropped, *gain)


def _score(score: SkillScore | Subskill) -> tuple[str, str, str]:
    """Cells: name, solved, accuracy."""
    name = score.skill if isinstance(score, SkillScore) else score.name
    share = "unknown" if score.accuracy is None else _share(score.accuracy, score.error)
    return name, f"{score.correct} of {score.n}", share


def _share(accuracy: float, error: float) -> str:
    return f"{accuracy:.0%} ± {error:.0%}"


def _table(title: str, columns: str, rows: Sequence[str], max_bytes: int) -> str:
    """A heading and a table with the first rows that fit."""
    names = columns.split(", ")
    text = f"\n## {title}\n\n{_row(*names)}{_row(*['---'] * len(names))}"
    for i, row in enumerate(rows):
        if len((text + row).encode()) + 60 > max_bytes:
            return f"{text}\n{len(rows) - i} more are not shown.\n"
        text += row
    return text


def _row(*cells: Any) -> str:
    """A table row; names of skills may come from anywhere, so no cell can end its row or begin another."""
    texts = (plain(" ".join(str(cell).split()), 120).replace("\\", "\\\\").replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(texts)} |\n"


def _spread(failures: Sequence[Attempt]) -> list[Attempt]:
    """The first of each skill, then the second of each, and so on."""
    by_skill: dict[str, list[Attempt]] = {}
    for attempt in failures:
        by_skill.setdefault(attempt.problem.skill, []).append(attempt)
    return [attempt for attempt in chain(*zip_longest(*by_skill.values())) if attempt is not None]


def _quoted(attempt: Attempt, max_bytes: int) -> str:
    texts = {
        "Problem": attempt.problem.prompt.in_words,
        "Response": attempt.response,
        "Right answer": attempt.problem.answer,
    }
    skill = " ".join(plain(attempt.problem.skill, 120).split())
    return f"\n### {skill}\n" + "".join(f"\n{name}:\n{_fenced(plain(text, max_bytes))}" for name, text in texts.items())


def _fenced(text: str) -> str:
    """`text` in a fence that no line of it can close (CommonMark 4.5: a closing fence is at least as long)."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}\n{text}\n{fence}\n"
