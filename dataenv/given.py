"""An attribute of a part that somebody hands over after the part is made: a client, a student, exercises."""

from __future__ import annotations

from typing import Any, Generic, Self, TypeVar, overload

from dataenv.errors import InvalidData

T = TypeVar("T")


class Given(Generic[T]):
    """Declares it; reading it before it was set raises InvalidData: "'NAME' " and `why`, which says what to call."""

    def __init__(self, why: str) -> None:
        self.why = why

    def __set_name__(self, owner: type, name: str) -> None:
        self.place = f"_{name}"  # what teachers keep in their state has no such name

    @overload
    def __get__(self, part: None, owner: type) -> Self: ...

    @overload
    def __get__(self, part: object, owner: type) -> T: ...

    def __get__(self, part: Any, owner: type) -> Self | T:
        if part is None:
            return self
        try:
            found: T = vars(part)[self.place]
        except KeyError:
            raise InvalidData(f"'{part.name}' {self.why}") from None
        return found

    def __set__(self, part: Any, value: T) -> None:
        vars(part)[self.place] = value
