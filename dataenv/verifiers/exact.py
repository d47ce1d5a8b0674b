"""Exact comparison of short answers: as text, as numbers. Pure functions with bounded work; nothing here can hang.

Numbers are compared as fractions, never as floats: 1,000 equals 1000.0, and 0.1 + 0.2 style accidents cannot happen.
"""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction

from dataenv.records import normalise

LONGEST_NUMBER = 100
"""Characters of the longest text read as a number: "9" * 10**6 and the like are refused before any arithmetic."""

_DIGITS = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)"
_NUMBER = re.compile(
    rf"""(?P<sign>[+-]?) \s* \$? \s* (?P<sign2>[+-]?)
         (?: (?P<whole>{_DIGITS}) (?P<point>\.[0-9]*)? | (?P<bare>\.[0-9]+) )
         (?: e (?P<exponent>[+-]?[0-9]{{1,3}}) | / (?P<below>{_DIGITS}) )?""",
    re.VERBOSE | re.IGNORECASE,
)
_NUMBER_IN_TEXT = re.compile(
    rf"[+-]?\$?[+-]?(?:{_DIGITS}(?:\.[0-9]+)?|\.[0-9]+)(?:e[+-]?[0-9]{{1,3}}(?![0-9])|/[0-9]+)?", re.IGNORECASE
)


def _plain(text: str) -> str:
    """ASCII forms of full-width digits and of the minus signs people paste."""
    return text if text.isascii() else re.sub("[−–﹣]", "-", unicodedata.normalize("NFKC", text))


def as_number(text: str) -> Fraction | None:
    """The number that `text` is, exactly; None when it is anything else or longer than `LONGEST_NUMBER`.

    Reads signs, thousands commas, decimals, fractions (3/4) and exponents of up to three digits. A dollar sign in
    front, a full stop or a percent sign behind are dropped as units are: "$1,000." is 1000 and "50%" is 50.
    """
    if len(text) > 4 * LONGEST_NUMBER:  # before strip(), which copies
        return None
    match = _NUMBER.fullmatch(_plain(text).strip().rstrip(".%").rstrip()[: LONGEST_NUMBER + 1])
    if match is None or len(match[0]) > LONGEST_NUMBER or (match["sign"] and match["sign2"]):
        return None
    whole = (match["whole"] or "0").replace(",", "")
    decimals = (match["point"] or match["bare"] or ".")[1:]
    value = Fraction(int(whole + decimals), 10 ** len(decimals))
    if match["exponent"]:
        value *= Fraction(10) ** int(match["exponent"])
    if match["below"]:
        below = int(match["below"].replace(",", ""))
        if below == 0:
            return None
        value /= below
    return -value if "-" in (match["sign"], match["sign2"]) else value


def numbers_in(text: str) -> list[str]:
    """Every number written in `text`, as text, from left to right. Linear in the length: cap long texts first.

    A minus directly after a letter, digit or bracket is read as an operator: "10-3" holds 10 and 3.
    """
    plain = _plain(text)
    found = []
    for match in _NUMBER_IN_TEXT.finditer(plain):
        number, start = match[0], match.start()
        if number[0] in "+-" and start and (plain[start - 1].isalnum() or plain[start - 1] in ")]"):
            number = number[1:]
        found.append(number)
    return found


def same_number(a: str, b: str) -> bool:
    """Whether both texts are numbers, and equal ones."""
    x = as_number(a)
    return x is not None and x == as_number(b)


def same_text(a: str, b: str) -> bool:
    """Whether two texts are equal after Unicode, case and white-space normalisation."""
    # A far longer text cannot be equal; saying so early keeps megabytes of response out of the normaliser.
    if len(a) > 20 * len(b) + 1000 or len(b) > 20 * len(a) + 1000:
        return False
    return normalise(a) == normalise(b)


def same_answer(a: str, b: str) -> bool:
    """Whether two answers agree: equal as numbers, or equal as normalised text."""
    return same_text(a, b) or same_number(a, b)
