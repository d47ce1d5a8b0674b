"""`dataenv/OpenEnded-v0`: the teacher reads what the student got wrong, and writes down what it wants taught."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from dataenv.checks import whole
from dataenv.engines.matching import Matcher
from dataenv.envs.teaching import TeachingEnv
from dataenv.errors import InvalidAction
from dataenv.records import UNMATCHED, Attempt, Example, Feedback, Plan, Problem, Request
from dataenv.seeding import stream
from dataenv.spaces import Prose, Requests, plain

Observation = dict[str, Any]
Action = tuple[dict[str, Any], ...]

STEPS_SHOWN = 5
"""How many finished steps the observation looks back."""


class OpenEndedEnv(TeachingEnv[Observation, Action]):
    """Observation:

    * `accuracy` (): share of the feedback problems solved; `error` (): its standard error.
    * `failures`: a tuple of up to `shown` failed attempts, dicts of `problem` (the prompt's text, below a line
      `[picture]` for each image), `response` and `answer` (the right one), each of at most `text_bytes` bytes, without
      control characters. They are another random sample at every step; equal situations show the same. All of them
      are in `info["feedback"]`, images included.
    * `budget` (2,): rows left in the episode, steps left.
    * `history` (5, 3): rows accepted, reward and its standard error (never 0) of the last steps, the newest last;
      zeros before the first.

    Action: a list of up to `rows` parts that ask for at most `rows` rows together (`spaces.Requests`):

    * `{"instruction": text, "exemplar": text, "rows": n}`: rows that the engine writes. The instruction says what is
      wanted, the exemplar is the prompt of a problem like it; one of them is enough. They are matched to a skill by
      `engines.matching`, and the instruction may state a difficulty ("hard", "difficulty 0.3"). What matches no skill
      is left to engines that read; the others write nothing, and `info["unmatched"]` says so: a list of (number of
      the part in the action, its text).
    * `{"prompt": text, "completion": text}`: a row written out. It has to pass the gate like any other.

    Arguments, reward and further info: see `TeachingEnv`; and `shown`, `text_bytes` (which holds for actions, too).
    """

    def __init__(self, *args: Any, shown: int = 8, text_bytes: int = 4096, **options: Any) -> None:
        super().__init__(*args, **options)
        self.shown, self.text_bytes = whole("shown", shown), whole("text_bytes", text_bytes)
        self.matcher = Matcher(self.task)
        text = Prose(self.text_bytes)
        self.observation_space = spaces.Dict(
            {
                "accuracy": spaces.Box(0.0, 1.0, (), np.float64),
                "error": spaces.Box(0.0, 1.0, (), np.float64),
                "failures": spaces.Sequence(spaces.Dict({"problem": text, "response": text, "answer": text})),
                "budget": spaces.Box(np.zeros(2, np.int64), np.array([self.max_rows, self.steps]), dtype=np.int64),
                "history": spaces.Box(
                    np.tile([0.0, -1.0, 0.0], (STEPS_SHOWN, 1)),
                    np.tile([self.max_rows, 1.0, 1.0], (STEPS_SHOWN, 1)),
                    dtype=np.float64,
                ),
            }
        )
        self.action_space = Requests(self.rows, self.text_bytes, topics=self.task.skills)

    def observe(self, feedback: Feedback) -> Observation:
        now = self.situation
        chosen = stream(now.seed, "failures", now.step).permutation(len(feedback.failures))[: self.shown]
        history = np.zeros((STEPS_SHOWN, 3))
        for row, past in zip(history[::-1], reversed(now.history), strict=False):
            row[:] = past.rows, past.reward, past.error
        return {
            "accuracy": np.array(feedback.accuracy),
            "error": np.array(feedback.error),
            "failures": tuple(self._told(feedback.failures[i]) for i in chosen),
            "budget": np.array([feedback.budget.rows_left, feedback.budget.steps_left], dtype=np.int64),
            "history": history,
        }

    def step(self, action: Action) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = super().step(action)
        accepted, taught = info["rows"]["accepted"], self.situation.taught
        served = {example.provenance.get("request") for example in taught[len(taught) - accepted :]}
        parts = [(i, part) for i, part in enumerate(action) if "rows" in part]
        info["unmatched"] = [
            (i, part.get("instruction") or part["exemplar"])
            for n, ((i, part), request) in enumerate(zip(parts, info["plan"].requests, strict=True))
            if request.skill == UNMATCHED and n not in served
        ]
        return observation, reward, terminated, truncated, info

    def plan(self, action: Action) -> Plan:
        fault = self.action_space.fault(action)  # type: ignore[attr-defined]
        if fault is not None:
            raise InvalidAction(f"action{fault}.")
        requests = tuple(self._request(part) for part in action if "rows" in part)
        return Plan(requests=requests, examples=tuple(self._row(part) for part in action if "rows" not in part))

    def action(self, plan: Plan) -> Action:
        """The action that asks for `plan`, skill and difficulty said in words; requests for no rows are left out.

        Raises InvalidAction where an action of this environment cannot say it: subskills, preference pairs, rows
        with images, prompts with tools, or a skill that the task does not have. Of an exemplar with images the words
        are said; longer words than it takes are cut short.
        """
        rows = [_written(f"plan.examples[{i}]", example) for i, example in enumerate(plan.examples)]
        return (*rows, *(self._said(f"plan.requests[{i}]", r) for i, r in enumerate(plan.requests) if r.rows))

    # -- one part of an action, read ----------------------------------------------------------------------------------

    def _request(self, part: dict[str, Any]) -> Request:
        instruction, exemplar = part.get("instruction", ""), part.get("exemplar", "")
        skill = self.matcher.skill(instruction, exemplar) or UNMATCHED
        return Request(
            skill=skill,
            rows=int(part["rows"]),
            difficulty=self.matcher.difficulty(instruction),
            instruction=instruction,
            # Without the answer: the task may know it, but whoever guesses a problem's text is not to be told.
            exemplar=Problem(prompt=exemplar, answer="", skill=skill) if exemplar else None,
        )

    def _row(self, part: dict[str, Any]) -> Example:
        return Example(
            prompt=part["prompt"],
            completion=part["completion"],
            skill=self.matcher.of_problem(part["prompt"]) or UNMATCHED,
        )

    # -- and written --------------------------------------------------------------------------------------------------

    def _said(self, where: str, request: Request) -> dict[str, Any]:
        if request.subskill is not None:
            raise InvalidAction(f"{where}.subskill: OpenEnded has no subskills; say it in the instruction.")
        words = request.instruction
        if request.skill != UNMATCHED and self.matcher.named(words) != {request.skill}:
            words = f"{request.skill}: {words}" if words else request.skill
        if request.difficulty is not None and self.matcher.difficulty(words) != request.difficulty:
            words += f" at difficulty {abs(request.difficulty)!r}"  # -0.0 is a number, too
        exemplar = "" if request.exemplar is None else request.exemplar.prompt.in_words
        words = plain(words, self.text_bytes)
        part = {"instruction": words, "exemplar": plain(exemplar, self.text_bytes), "rows": request.rows}
        read = self._request(part)
        if request.skill not in (UNMATCHED, read.skill):
            raise InvalidAction(f"{where}.skill: {words!r} does not ask for '{request.skill}' alone; name one skill.")
        if request.difficulty not in (None, read.difficulty):
            raise InvalidAction(f"{where}.difficulty: {words!r} states two difficulties; state one.")
        return part

    def _told(self, attempt: Attempt) -> dict[str, str]:
        told = {
            "problem": attempt.problem.prompt.in_words,
            "response": attempt.response,
            "answer": attempt.problem.answer,
        }
        return {key: plain(text, self.text_bytes) for key, text in told.items()}


def _written(where: str, example: Example) -> dict[str, Any]:
    if example.rejected is not None:
        raise InvalidAction(f"{where}.rejected: OpenEnded takes a prompt and a completion only.")
    if example.prompt.images or example.prompt.tools:
        what = "images" if example.prompt.images else "tools"
        raise InvalidAction(f"{where}.prompt: OpenEnded takes text only, no {what}.")
    return {"prompt": example.prompt.text, "completion": example.completion}
