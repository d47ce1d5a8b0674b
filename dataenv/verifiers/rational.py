"""Numbers as they are written in LaTeX, exactly: sums, products, powers and fractions of numbers in digits.

Every step and every result is bounded; nothing here can hang.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

_TOKEN = re.compile(
    r"\s*(?:(?P<repeating>\d*\.\d*\\overline\{\d+\})|(?P<number>\d{1,3}(?:,\d{3})+(?![\d,])(?:\.\d+)?|\d+(?:\.\d*)?|\.\d+)"
    r"|(?P<mark>\\frac|\\cdot(?![a-zA-Z])|\\times(?![a-zA-Z])|\\div(?![a-zA-Z])|[-+*/^(){}]))"
)
_BITS = 20_000
"""Size of the largest number that is worked out."""


class Value(NamedTuple):
    number: Fraction
    percent: bool


def read_number(text: str) -> Value | None:
    """The number that a tidy text is, exactly: sums, products, powers and fractions of numbers in digits."""
    bare = re.sub(r"\\?%$", "", text).rstrip()
    try:
        return Value(_Reader(bare).whole(), bare != text)
    except (_NoNumber, ZeroDivisionError):
        return None


def same_value(x: Value, y: Value) -> bool:
    """50% is 50 and also 1/2; but 50% is not 0.5%."""
    if x.number == y.number:
        return True
    if x.percent == y.percent:
        return False
    return x.number / 100 == y.number if x.percent else x.number == y.number / 100


class _NoNumber(ValueError):
    pass


class _Reader:
    """A recursive-descent reader of numbers as they are written; every step and every result is bounded."""

    def __init__(self, text: str) -> None:
        self._tokens: list[re.Match[str]] = []
        self._at = self._depth = 0
        at = 0
        while at < len(text):
            token = _TOKEN.match(text, at)
            if token is None:
                raise _NoNumber
            self._tokens.append(token)
            at = token.end()

    def whole(self) -> Fraction:
        value = self._sum()
        if self._at < len(self._tokens):
            raise _NoNumber
        return value

    def _next(self) -> str:
        return self._tokens[self._at]["mark"] or "0" if self._at < len(self._tokens) else ""

    def _take(self, *marks: str) -> str:
        """The next mark, if it is one of these; else an empty text."""
        mark = self._next()
        if mark not in marks:
            return ""
        self._at += 1
        return mark

    def _sum(self) -> Fraction:
        self._depth += 1
        if self._depth > 30:
            raise _NoNumber
        sign = self._take("+", "-")
        value = self._product() * (-1 if sign == "-" else 1)
        while sign := self._take("+", "-"):
            value = _bounded(value + self._product() * (-1 if sign == "-" else 1))
        self._depth -= 1
        return value

    def _product(self) -> Fraction:
        begun = self._at
        value = self._power()
        # "2\frac{1}{2}" is two and a half, "2(3)" is six, and "2 3" is nothing.
        if self._at == begun + 1 and self._next() == r"\frac" and value.denominator == 1:
            value += self._power()
        while True:
            if self._take("*", r"\cdot", r"\times") or self._next() in ("(", r"\frac"):
                value = _bounded(value * self._power())
            elif self._take("/", r"\div"):
                value = _bounded(value / self._power())
            else:
                return value

    def _power(self) -> Fraction:
        base = self._atom()
        if not self._take("^"):
            return base
        sign = -1 if self._take("-") else 1
        exponent = sign * self._atom()
        size = max(abs(base.numerator), base.denominator).bit_length()
        if exponent.denominator != 1 or abs(exponent) * size > _BITS:
            raise _NoNumber
        return Fraction(base ** int(exponent))

    def _atom(self) -> Fraction:
        if self._take(r"\frac"):
            above = self._atom()
            return _bounded(above / self._atom())
        if opening := self._take("(", "{"):
            value = self._sum()
            if not self._take({"(": ")", "{": "}"}[opening]):
                raise _NoNumber
            return value
        if self._next() != "0":
            raise _NoNumber
        token = self._tokens[self._at]
        self._at += 1
        return _repeating(token["repeating"]) if token["repeating"] else Fraction(token["number"].replace(",", ""))


def _bounded(value: Fraction) -> Fraction:
    if value.numerator.bit_length() + value.denominator.bit_length() > _BITS:
        raise _NoNumber
    return value


def _repeating(text: str) -> Fraction:
    r"""0.1\overline{6}, which is 1/6."""
    whole, _, rest = text.partition(".")
    once, _, again = rest.removesuffix("}").partition(r"\overline{")
    period = Fraction(int(again), 10 ** len(again) - 1)
    return Fraction(int(whole + once or "0") + period, 10 ** len(once))
