"""Teachers that choose rows from the task's pool and write them out as they are: `random-pool`, `kmeans-iter`.

They act in OpenEnded, whose actions can hold written-out rows. The gate drops those that are contaminated; as nobody is
asked again for such rows, a step may then teach fewer than were chosen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataenv.agents.formulas import Floats, softmax, with_unknown
from dataenv.agents.teacher import BaseTeacher, writes, written_out
from dataenv.checks import real, whole
from dataenv.errors import InvalidData, MissingDependency
from dataenv.exercises import SetsExercises
from dataenv.records import Example, Feedback, Plan, Problem
from dataenv.seeding import stream
from dataenv.spaces import proportions

PER_SKILL = 2_000
"""Problems of a skill that the pool is taken to hold; tasks that write problems have no end of them."""
CLUSTERED = 300
"""Problems of a skill that are clustered (ours)."""
CLUSTERS, LEAST = 64, 20
"""Most clusters (the authors' code), and how many problems one has on average at least (ours)."""
RESTARTS = 4
"""Of k-means (ours)."""
TEMPERATURE = 0.25
"""Of the weights (ours: with errors in [0, 1] the original's 1 is nearly flat)."""


class PoolTeacher(SetsExercises, BaseTeacher):
    """Base of the teachers here."""

    environments = ("open-ended",)

    def __init__(self, pool: int = PER_SKILL) -> None:
        self.per_skill = whole(f"{self.name}: pool", pool)
        self._drawn: tuple[int, list[Problem]] | None = None

    def reset(self, seed: int) -> None:
        super().reset(seed)
        self.draw = int(self.rng.integers(2**63))
        """The seed that the pool is drawn with."""

    def choose(self, n: int) -> Sequence[int]:
        """The places in the pool of up to `n` problems to teach."""
        raise NotImplementedError

    @property
    def pool(self) -> list[Problem]:
        """The problems that can be written out; the others are left out."""
        if self._drawn is None or self._drawn[0] != self.draw:
            self._drawn = self.draw, list(filter(written_out, self.exercises.problems(self.per_skill, self.draw)))
        return self._drawn[1]

    def act(self, observation: Any, info: Mapping[str, Any]) -> Plan:
        if not writes(observation):
            raise InvalidData(f"{self.name} writes rows out, which this environment does not take; use open-ended.")
        feedback: Feedback = info["feedback"]
        chosen = self.choose(min(feedback.budget.rows_now, len(self.pool)))
        return Plan(examples=tuple(Example.from_problem(self.pool[i]) for i in chosen))


class RandomPool(PoolTeacher):
    """Problems of the pool in random order, none twice before all were chosen. The control of all that choose rows."""

    name = "random-pool"

    def reset(self, seed: int) -> None:
        super().reset(seed)
        self.round = self.at = 0
        """Which time through the pool, and how far."""

    def choose(self, n: int) -> list[int]:
        chosen: dict[int, None] = {}
        while len(chosen) < n:
            order = stream(self.draw, "order", self.round).permutation(len(self.pool))[self.at :].tolist()
            for i in order:
                if len(chosen) == n:
                    return list(chosen)
                chosen[i] = None
                self.at += 1
            self.round, self.at = self.round + 1, 0
        return list(chosen)


class KMeansIter(PoolTeacher):
    """The pool is clustered once, by the words of its problems. First all clusters have the same rows; then each has
    them in proportion to exp(share of the last choice from it that the student fails / temperature). No problem is
    chosen twice; a cluster that is used up has no share, one that was not tried counts as the mean.

    With `clusters` 0 the clusters are the skills. Source: Diversify and Conquer (2024),
    https://arxiv.org/abs/2409.11378, and its code; ours are the score (there, how much better the right answer is
    rated than the student's), TF-IDF features, and the temperature.
    """

    name = "kmeans-iter"

    def __init__(self, clusters: int = CLUSTERS, *, temperature: float = TEMPERATURE, pool: int = CLUSTERED) -> None:
        super().__init__(pool)
        self.clusters = whole("kmeans-iter: clusters", clusters, least=0)
        self.temperature = real("kmeans-iter: temperature", temperature, 1e-6)
        self._labels: tuple[int, NDArray[np.int64]] | None = None

    def reset(self, seed: int) -> None:
        super().reset(seed)
        self.taken: list[int] = []
        self.last: list[int] = []
        """Chosen so far, and in the last step."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """(N,): the cluster of each problem of the pool."""
        if self._labels is None or self._labels[0] != self.draw:
            self._labels = self.draw, self._clustered()
        return self._labels[1]

    def choose(self, n: int) -> list[int]:
        labels = self.labels
        left: list[list[int]] = [[] for _ in range(int(labels.max(initial=-1)) + 1)]
        taken = set(self.taken)
        for i in self.rng.permutation(len(labels)).tolist():
            if i not in taken:
                left[labels[i]].append(i)
        shares = cluster_shares(*self._failed(len(left)), self.temperature)
        chosen: list[int] = []
        while len(chosen) < n and any(left):
            open_ = proportions(shares * np.array([bool(group) for group in left]))
            for cluster, count in enumerate(self.rng.multinomial(n - len(chosen), open_).tolist()):
                if count:
                    chosen += left[cluster][-count:]
                    del left[cluster][-count:]
        self.last = chosen
        self.taken = [*self.taken, *chosen]
        return chosen

    def _failed(self, k: int) -> tuple[Floats, NDArray[np.int64]]:
        """By cluster the share failed of the last choice, and how many were tried."""
        tried = self.exercises.tried([self.pool[i] for i in self.last])
        where = self.labels[self.last[: len(tried)]]
        n = np.bincount(where, minlength=k)
        wrong = np.bincount(where, weights=[not attempts[0].correct for attempts in tried], minlength=k)
        return wrong / np.maximum(n, 1), n

    def _clustered(self) -> NDArray[np.int64]:
        texts = [problem.prompt.text for problem in self.pool]
        k = min(self.clusters, len(texts) // LEAST)
        if k < 2:
            skills = sorted({problem.skill for problem in self.pool})
            return np.array([skills.index(problem.skill) for problem in self.pool], np.int64)
        try:
            from sklearn.cluster import KMeans
            from sklearn.feature_extraction.text import TfidfVectorizer
        except ImportError as error:
            raise MissingDependency('kmeans-iter needs scikit-learn: pip install "dataenv[tasks]".') from error
        features = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 3), max_features=2_000).fit_transform(texts)
        k = min(k, len(set(texts)))
        found: NDArray[np.int64] = KMeans(k, n_init=RESTARTS, random_state=self.draw % 2**32).fit(features).labels_
        return found.astype(np.int64)


def cluster_shares(failed: Floats, n: Any, temperature: float = TEMPERATURE) -> Floats:
    """Softmax of the share failed, the mean where nothing was tried."""
    return softmax(with_unknown(failed, np.asarray(n) > 0), temperature)
