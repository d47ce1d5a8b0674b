"""The errors dataenv raises on purpose: each message is one sentence saying what, where and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class DataEnvError(Exception):
    """Base of every error a user can cause or mend. The command line prints its message without a traceback."""


class UnknownId(DataEnvError, KeyError):
    """An id that no registry holds. The message names the nearest ids and the command that lists them all."""

    def __str__(self) -> str:  # KeyError would show the message in quotes
        return str(self.args[0])


class InvalidAction(DataEnvError, ValueError):
    """An action or plan outside its space. The message names the field; the environment is unchanged and usable."""


class InvalidData(DataEnvError, ValueError):
    """Bad rows, files or settings. The message names the file and the line, or the field."""


class MissingDependency(DataEnvError, ImportError):
    """An optional package or a model's weights are absent. The message names the command that installs them."""


class TrainingFailed(DataEnvError, RuntimeError):
    """A training broke down. The student is as it was before the call."""


class GenerationFailed(DataEnvError, RuntimeError):
    """A generator broke down while a student answered. The student is unchanged, and the call can be repeated."""


class ChatError(DataEnvError, RuntimeError):
    """A language model gave no usable answer.

    An error of one call stands in the place of its answer. One that concerns every call (`general`) is raised, and
    `results` then holds what came of each question, in order, so that nothing that was answered is lost.
    """

    general = False

    def __init__(self, message: str, results: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.results = results


class CallFailed(ChatError):
    """One call failed for good: refused for what it asks, or at every try. The message has the server's words."""


class BadAnswer(ChatError):
    """An answer that does not fit the form that was asked for, after its one repair, or a model that declined."""


class BudgetSpent(ChatError):
    """A call was not made, because it might have passed the budget of tokens or dollars."""


class ServerFailing(ChatError):
    """No server was found, or it did nothing but fail for a while. What was answered before is kept."""

    general = True


class ModelRefused(ChatError):
    """The server takes neither key nor model, whatever is asked. The message has its words and the setting to mend."""

    general = True


class NotOnTape(ChatError):
    """A replay was asked something that the recorded run had not asked."""

    general = True


class EpisodeOver(DataEnvError, RuntimeError):
    """`step` was called before `reset`, or after the episode had ended."""


class RunError(DataEnvError, RuntimeError):
    """A run folder cannot be written, read or resumed. What was finished before stays on disk."""


class Note(UserWarning):
    """Something odd that stops nothing; the command line prints it as one line."""
