"""Which skills there are: found once, from the feedback split alone, and then a fixed map of problems to skills.

Ways to discover differ in how they label the feedback problems; a new problem is mapped by one rule for all of them
(`NearestSkill`). Scikit-learn is needed for that (extra `tasks`) and loads on first use.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np

from dataenv.errors import InvalidData, MissingDependency, Note
from dataenv.protocols import Discovery
from dataenv.records import Problem, Record, content_hash, normalise
from dataenv.skills import discoveries

OTHER = "other"
"""The skill of problems that nothing can be said of, because they share no word and no letters with a labelled one."""

Labeller = Callable[[Sequence[Problem]], Mapping[str, str]]
"""Feedback problems (distinct prompts, in the order of their keys) -> skill by prompt key or problem id. Entries beyond
the given problems hold too; problems without an entry are mapped like new ones."""

Embed = Callable[[Sequence[str]], Any]
"""n texts -> an (n, d) array or sparse matrix of floats, one row a text."""

TERM = r"\w+|[^\w\s]"
"""A word, or a sign that stands alone."""

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


class Label(Record):
    """One labelled problem: its prompt key (or problem id), its skill, and its text where it was seen in fitting."""

    key: str
    skill: str
    text: str | None = None


class NearestSkill:
    """Skills from labelled problems.

    A problem whose prompt (or id) has a label has that skill. Any other has the skill whose labelled prompts' mean is
    nearest to it, which for k-means clusters is k-means' own rule. Prompts are placed by `embed`, TF-IDF of the
    labelled prompts when it is None; images and tools do not count. What cannot be placed is `OTHER`, with one warning.
    """

    def __init__(self, name: str, label: Labeller, embed: Embed | None = None) -> None:
        self.name = name
        self.skills: tuple[str, ...] = ()
        self._label, self._embed = label, embed
        self._labels: tuple[Label, ...] = ()
        self._warned = False

    def fit(self, problems: Sequence[Problem]) -> None:
        if not problems:
            raise InvalidData(f"Discovery '{self.name}' got no feedback problems; give the task more data.")
        distinct: dict[str, Problem] = {}
        for problem in sorted(problems, key=lambda problem: (problem.prompt.key, problem.prompt.text)):
            distinct.setdefault(problem.prompt.key, problem)
        ordered = list(distinct.values())
        labels = dict(self._label(ordered))
        found = []
        for problem in ordered:
            skill = labels.pop(problem.id, None)
            skill = labels.pop(problem.prompt.key, skill)
            if skill is not None:
                found.append(Label(key=problem.prompt.key, skill=skill, text=problem.prompt.text))
        self._place((*found, *(Label(key=key, skill=skill) for key, skill in sorted(labels.items()))))

    def skills_of(self, problems: Sequence[Problem]) -> list[str]:
        found = [self._known.get(problem.prompt.key) or self._known.get(problem.id) for problem in problems]
        new = [i for i, skill in enumerate(found) if skill is None]
        if new:
            for i, skill in zip(new, self._nearest([problems[i].prompt.text for i in new]), strict=True):
                found[i] = skill
        return [skill or OTHER for skill in found]

    def state(self) -> Any:
        return [label.model_dump(mode="json") for label in self._labels]

    def restore(self, state: Any) -> None:
        self._place(tuple(Label.model_validate(label) for label in state))

    def _place(self, labels: tuple[Label, ...]) -> None:
        """Take on `labels`; the means are computed from them, so they are the whole fitted state."""
        from scipy.sparse import csr_array

        texts = [label.text for label in labels if label.text is not None]
        seen = [label.skill for label in labels if label.text is not None]
        self._space = self._embed or tf_idf(texts)
        self._names = sorted(set(seen))
        rows = np.array([self._names.index(skill) for skill in seen])
        share = 1 / np.bincount(rows)[rows]
        mean = csr_array((share, (rows, np.arange(len(rows)))), shape=(len(self._names), len(rows)))
        placed = mean @ csr_array(self._space(texts))
        self._means = placed.toarray()
        self._labels, self._known = labels, {label.key: label.skill for label in labels}
        self.skills = tuple(sorted({label.skill for label in labels}))

    def _nearest(self, texts: Sequence[str]) -> list[str]:
        from scipy.sparse import csr_array
        from sklearn.metrics import pairwise_distances_argmin

        placed = csr_array(self._space(texts))
        nearest = pairwise_distances_argmin(placed, self._means)
        nowhere = abs(placed).sum(axis=1) == 0
        if nowhere.any() and not self._warned:
            self._warned = True
            text = texts[int(np.argmax(nowhere))]
            warnings.warn(f"skill '{OTHER}': nothing in {text[:60]!r} is known to '{self.name}'", Note, stacklevel=4)
        return [OTHER if lost else self._names[i] for i, lost in zip(nearest, nowhere, strict=True)]


class Gold:
    """The task's own labels, behind the same protocol."""

    name = "gold"

    def __init__(self) -> None:
        self.skills: tuple[str, ...] = ()

    def fit(self, problems: Sequence[Problem]) -> None:
        self.skills = tuple(sorted({problem.skill for problem in problems}))

    def skills_of(self, problems: Sequence[Problem]) -> list[str]:
        return [problem.skill for problem in problems]

    def state(self) -> Any:
        return list(self.skills)

    def restore(self, state: Any) -> None:
        self.skills = tuple(state)


def tf_idf(texts: Sequence[str]) -> Embed:
    """Places texts by their words and pairs of words, and by runs of 2 to 4 letters within words, equally weighted.

    Every number counts as the same word: which numbers a question holds says nothing of its skill. Rows have length
    1, or 0 for a text that shares nothing with `texts`. Raises InvalidData when `texts` hold no text at all.
    """
    need_sklearn()
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.preprocessing import normalize

    words = TfidfVectorizer(preprocessor=plain, token_pattern=TERM, ngram_range=(1, 2), sublinear_tf=True)
    letters = TfidfVectorizer(preprocessor=plain, analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True)
    if not any(map(plain, texts)):
        raise InvalidData("The feedback problems' prompts hold no text, and skills are told apart by text; label them.")
    words.fit(texts)
    letters.fit(texts)
    return lambda new: normalize(hstack([words.transform(new), letters.transform(new)], format="csr"))


def plain(text: str) -> str:
    """`text` normalised, with every number as `#`."""
    return _NUMBER.sub("#", normalise(text))


def need_sklearn() -> None:
    if find_spec("sklearn") is None:
        raise MissingDependency('Skill discovery needs scikit-learn: pip install "dataenv[tasks]".')


def freeze(discovery: Discovery) -> dict[str, Any]:
    """The fitted state as a JSON object with the hash of its content, for `thaw`."""
    state = discovery.state()
    return {"discovery": discovery.name, "hash": content_hash(discovery.name, state), "state": state}


def thaw(frozen: Mapping[str, Any], **options: Any) -> Discovery:
    """The discovery that `freeze` wrote down, without fitting anew; `options` as for `discoveries.make`.

    Raises InvalidData when the content does not have the hash it was frozen with.
    """
    if frozen["hash"] != content_hash(frozen["discovery"], frozen["state"]):
        raise InvalidData(f"The frozen skills of '{frozen['discovery']}' were changed; discover them anew.")
    discovery: Discovery = discoveries.make(frozen["discovery"], **options)
    discovery.restore(frozen["state"])
    return discovery
