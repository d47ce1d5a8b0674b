"""What a client has used and what came of it, as plain numbers for a run's log."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from dataenv.errors import ChatError


@dataclass
class Ledger:
    """Counts since the client was made.

    `calls` are tries sent to the model, `retries` those beyond a call's first; `answers` and `failures` (by error) are
    questions; `cached` calls were spared because cache or tape knew them; `repairs` asked again for the right form.
    `lost` tries may have been charged by the server though nothing came of them: a budget counts them in full, the
    tokens and dollars here are those that the server has stated. `seconds` are those the callers of `ask` waited.
    """

    calls: int = 0
    retries: int = 0
    cached: int = 0
    repairs: int = 0
    lost: int = 0
    answers: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    dollars: float = 0.0
    seconds: float = 0.0
    failures: Counter[str] = field(default_factory=Counter)

    def failed(self, error: ChatError) -> None:
        self.failures[type(error).__name__] += 1

    def as_dict(self) -> dict[str, Any]:
        """A copy as JSON-serialisable data."""
        return {**vars(self), "failures": dict(self.failures)}

    def since(self, before: dict[str, Any]) -> dict[str, Any]:
        """What was added to an earlier `as_dict`."""
        now = self.as_dict()
        failures = {kind: n - before["failures"].get(kind, 0) for kind, n in now.pop("failures").items()}
        added = {name: value - before[name] for name, value in now.items()}
        return {**added, "failures": {kind: n for kind, n in failures.items() if n}}
