"""The gate: which rows may be taught. Every row it turns away is counted under a reason."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from os.path import commonprefix

from dataenv.images import UNREADABLE, readable
from dataenv.protocols import Task
from dataenv.records import Example, Problem, Prompt, normalise
from dataenv.tasks.splits import split_of

NGRAM = 13
"""Words and signs in a row that two different questions hardly share by chance (the customary contamination test)."""

CONTAMINATED = "contaminated"

_TOKEN = re.compile(r"\w+|[^\w\s]")


def tokens(text: str) -> list[str]:
    """The words and signs of the normalised text, in order."""
    return _TOKEN.findall(normalise(text))


def ngrams(text: str) -> set[str]:
    """All runs of `NGRAM` consecutive words or signs of the normalised text."""
    if len(text) < NGRAM:
        return set()
    found = tokens(text)
    return {" ".join(found[i : i + NGRAM]) for i in range(len(found) - NGRAM + 1)}


class Gate:
    """Drops rows that are duplicates, contaminated, or wrong.

    * `duplicate`: the prompt was taught before (in this episode), or stands twice in the plan.
    * `contaminated`: the prompt equals a protected problem (of the feedback, selection or exam split), or prompt or
      completion shares a 13-gram with one that has no picture. An n-gram of two protected problems, or of a protected
      and an open one, is a template's wording and no evidence.
    * `wrong`: the verifier refuses the completion, judged by the true problem where the task recognises the prompt,
      else by the answer the row itself states. A row with neither cannot be judged and passes.
    * `unreadable`: an image of the prompt is no whole PNG, JPEG or WebP.

    Checks of other hands, and those that ask the student, come after it: `protocols.Filter`, see `filling.fill`.

    `open_` holds prompts anyone may see (exemplars). The protected problems' texts are not kept, only hashes of their
    keys and n-grams.
    """

    def __init__(self, task: Task, protected: Iterable[Prompt], open_: Iterable[Prompt] = ()) -> None:
        self.task = task
        prompts = {prompt.key: prompt for prompt in (*protected, *task.held_out())}
        # The same words about another picture are another question.
        texts = [prompt.text for prompt in prompts.values() if not prompt.images]
        # What all end in (how to answer, say) is wording, and so is a run of words that goes on into it.
        ending = commonprefix([text[::-1] for text in texts]) if len(texts) > 1 else ""  # noqa: RUF071
        counts = Counter(hash(gram) for text in texts for gram in ngrams(text[: len(text) - len(ending)]))
        self._keys = frozenset(prompts)
        wording = {hash(gram) for prompt in open_ for gram in ngrams(prompt.text)}
        self._ngrams = frozenset(gram for gram, count in counts.items() if count == 1) - wording

    def fault(self, example: Example, taught: AbstractSet[str]) -> str | None:
        """Why `example` may not be taught; None when it may. `taught` holds the prompt keys of all rows so far."""
        key = example.prompt.key
        if key in taught:
            return "duplicate"
        if key in self._keys:
            return CONTAMINATED
        if self._ngrams and self._overlaps(example.prompt.text, example.completion, example.rejected or ""):
            return CONTAMINATED
        known = self.task.recognise(example.prompt)
        if known is not None and split_of(example.prompt) != "pool" and not self.task.held_out():
            return CONTAMINATED  # a minted split may ask this very question later
        truth: Problem | None = known or example.as_problem()
        if truth is not None and not self.task.verify(truth, example.completion).correct:
            return "wrong"
        return None if readable(example.prompt) else UNREADABLE

    def _overlaps(self, *texts: str) -> bool:
        return any(hash(gram) in self._ngrams for text in texts for gram in ngrams(text))
