"""Skills as groups of similar prompts: TF-IDF (or an embedding of yours) and k-means."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataenv.errors import InvalidData
from dataenv.records import Problem
from dataenv.skills.discovery import OTHER, TERM, Embed, NearestSkill, need_sklearn, plain, tf_idf

MOST_SKILLS = 24
"""The most skills looked for when their number is not given."""
MOST_PROBLEMS = 1024
"""Prompts that are clustered (any more are mapped): the first by key, which is as good as drawn at random."""
STARTS = 4
"""Seeded starts of k-means; the tightest result counts."""


def cluster(k: int | str | None = None, *, embed: Embed | None = None, seed: int = 0) -> NearestSkill:
    """K-means over TF-IDF (`discovery.tf_idf`), or over `embed`, e.g. `SentenceTransformer(...).encode`.

    Without `k`, the number of skills in 2 ... 24 with the highest mean silhouette (cosine distance; Rousseeuw 1987).
    Each skill is named after the terms that tell it apart. Raises InvalidData when `k` is no number of at least 1.
    """
    name = "cluster" if k is None else f"cluster:{k}"
    try:
        wanted = None if k is None else int(k)
    except ValueError:
        wanted = 0
    if wanted is not None and wanted < 1:
        raise InvalidData(f"{name}: the number of skills must be a whole number of at least 1, as in cluster:12.")
    need_sklearn()

    def label(problems: Sequence[Problem]) -> Mapping[str, str]:
        chosen = problems[:MOST_PROBLEMS]
        texts = [problem.prompt.text for problem in chosen]
        groups = partition((embed or tf_idf(texts))(texts), wanted, seed)
        names = telling_names(texts, groups)
        return {problem.prompt.key: names[group] for problem, group in zip(chosen, groups, strict=True)}

    return NearestSkill(name, label, embed)


def partition(points: Any, k: int | None, seed: int) -> NDArray[np.int64]:
    """The group (0, 1, ...) of each row of `points` (n, d): k groups, or as many as give the highest mean silhouette.

    Fewer than k come where there are fewer distinct rows.
    """
    from scipy.sparse import csr_array
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.metrics import pairwise_distances, silhouette_score
    from sklearn.preprocessing import normalize
    from threadpoolctl import threadpool_limits

    points = normalize(csr_array(points))
    n = points.shape[0]
    sizes = range(2, min(MOST_SKILLS, n - 1) + 1) if k is None else [min(k, n)]
    best, groups = -np.inf, np.zeros(n, dtype=np.int64)
    with threadpool_limits(1), warnings.catch_warnings():  # threads change the order of sums
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct rows than groups
        apart = pairwise_distances(points, metric="cosine") if k is None else None
        for size in sizes:
            found = np.unique(
                KMeans(size, n_init=STARTS, random_state=seed, tol=0).fit_predict(points), return_inverse=True
            )[1]
            if apart is None:
                return found
            if found.max() + 1 < size:
                break
            if (score := silhouette_score(apart, found, metric="precomputed")) > best:
                best, groups = score, found
    return groups


def telling_names(texts: Sequence[str], groups: NDArray[np.int64]) -> list[str]:
    """A distinct name for each group: the one or two words that most tell it from all, signs where words do not.

    A term tells by how much its share of the group's texts exceeds its share of all texts: by a quarter at least,
    unless there is none or the name is taken; then the next ones serve.
    """
    from sklearn.feature_extraction.text import CountVectorizer

    count = int(groups.max()) + 1
    if not any(map(plain, texts)):
        return [OTHER] * count
    counter = CountVectorizer(preprocessor=plain, token_pattern=TERM, binary=True)
    holds = counter.fit_transform(texts)
    vocabulary = counter.get_feature_names_out()
    overall = np.asarray(holds.mean(axis=0)).ravel()
    names: list[str] = []
    for group in range(count):
        excess = np.asarray(holds[groups == group].mean(axis=0)).ravel() - overall
        told = ((weight, term) for weight, term in zip(excess.round(1), vocabulary, strict=True) if term != "#")
        ranked = sorted((-weight, not term.isalpha(), -len(term), term) for weight, term in told)
        terms = [term for *_, term in ranked]
        used = min(sum(weight <= -0.25 for weight, *_ in ranked), 2)
        while " ".join(terms[:used]) in ("", *names) and used < len(terms):
            used += 1
        name = " ".join(terms[:used]) or "#"
        names.append(name if name not in names else f"{name} {group + 1}")
    return names
