"""K functions in turn, whose calls to a shared part are carried out as one: `together` runs them, `join` meets.

Each function runs until it joins; when every one has joined or ended, what they asked for is carried out at once, and
they go on. All of it happens in the caller's thread, on greenlets: nothing needs a lock, what comes out does not depend
on a scheduler, one that never joins holds up nobody, and an interrupt strikes whoever is at work, at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import copy_context
from typing import Any, NamedTuple

from greenlet import getcurrent, greenlet

Work = Callable[[list[Any]], Sequence[Any]]
"""Carries out several calls: one outcome for each argument. An outcome that is an exception is raised in its caller."""


class _Call(NamedTuple):
    work: Work
    argument: Any


class _End(NamedTuple):
    outcome: Any


class _Seat(greenlet):  # type: ignore[misc]  # greenlet carries no types
    """A function that is run by `together`."""


def join(work: Work, argument: Any) -> Any:
    """`work` on `argument`, carried out together with what the other functions join for the same `work`.

    Outside of `together` it is carried out alone, at once.
    """
    me = getcurrent()
    outcome = me.parent.switch(_Call(work, argument)) if isinstance(me, _Seat) else work([argument])[0]
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


def together(functions: Sequence[Callable[[], Any]]) -> list[Any]:
    """What each function returned, or the exception that it raised; one that fails disturbs no other.

    An interrupt (KeyboardInterrupt) is raised in every function that has begun, at its `join`, and then here.
    """
    seats = [_seat(function) for function in functions]
    try:
        said = [seat.switch() for seat in seats]
        while calls := {i: call for i, call in enumerate(said) if isinstance(call, _Call)}:
            outcomes: dict[int, Any] = {}
            for work in dict.fromkeys(call.work for call in calls.values()):
                asking = [i for i, call in calls.items() if call.work == work]
                try:
                    outcomes |= zip(asking, work([calls[i].argument for i in asking]), strict=True)
                except Exception as error:  # each who asked must hear of it, to undo its own part
                    outcomes |= dict.fromkeys(asking, error)
            for i in calls:
                said[i] = seats[i].switch(outcomes[i])
    except BaseException as interrupt:
        for seat in seats:
            while seat:  # begun, not ended
                with suppress(BaseException):
                    seat.throw(interrupt)
        raise
    return [end.outcome for end in said]


def _seat(function: Callable[[], Any]) -> _Seat:
    def run() -> _End:
        try:
            return _End(function())
        except Exception as error:
            return _End(error)

    seat = _Seat(run)
    seat.gr_context = copy_context()  # who listens to progress here, listens there
    return seat
