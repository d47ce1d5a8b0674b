"""Comparison of answers of a word or two. Pure functions with bounded work; nothing here can hang.

`Yes.` is `yes`, `The Red circle` is `red circle`, `two` is `2`; a sentence around the answer, or a second answer beside
it, is wrong. Source: the normalisation usual in visual question answering (Antol et al. 2015, arXiv 1505.00468),
without its list of contractions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from dataenv.records import normalise

LONGEST = 200
"""Characters of the longest text that is read as a short answer."""

_ARTICLES = frozenset(("a", "an", "the"))
_UP_TO_TWELVE = "zero one two three four five six seven eight nine ten eleven twelve"
_NUMBERS = {"none": "0"} | {word: str(number) for number, word in enumerate(_UP_TO_TWELVE.split())}
# A word may hold points, commas and the like between letters or digits (3.5, o'clock), and begin with a minus.
_WORD = re.compile(r"(?<!\w)-?\d+(?:[.,:/]\d+)*|[^\W\d_](?:[^\W_]|'(?=\w))*|[^\W_]+")


def short(text: str) -> str:
    """The answer as it is compared: lower case, no punctuation, no articles, numbers up to twelve as digits.

    Articles stay where there is nothing else ("A" of "A or B").
    """
    words = [_NUMBERS.get(word, word) for word in _WORD.findall(normalise(text))]
    return " ".join([word for word in words if word not in _ARTICLES] or words)


def same_short(response: str, answer: str) -> bool:
    """Whether two short answers agree. Texts without a word or number agree with nothing but themselves."""
    if len(response) > LONGEST or len(answer) > LONGEST:
        return False
    said, right = short(response), short(answer)
    return said == right if said and right else normalise(response) == normalise(answer) != ""


def first_choice(response: str, choices: Iterable[str], *, cased: bool = False) -> str | None:
    """The first of `choices` that stands in the response as a whole word; None where none does.

    Case does not count unless `cased`. Only the first `LONGEST` characters are read.
    The rule of NaturalBench (arXiv 2410.14669).
    """
    spelt = {choice if cased else choice.casefold(): choice for choice in choices}
    pattern = "|".join(re.escape(choice) for choice in spelt.values())
    match = re.search(rf"(?<!\w)(?:{pattern})(?!\w)", response[:LONGEST], re.NOFLAG if cased else re.IGNORECASE)
    return spelt.get(match[0] if cased else match[0].casefold()) if match and spelt else None
