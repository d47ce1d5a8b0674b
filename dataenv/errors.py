"""The errors dataenv raises on purpose: each message is one sentence saying what, where and what to do."""

from __future__ import annotations


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


class EpisodeOver(DataEnvError, RuntimeError):
    """`step` was called before `reset`, or after the episode had ended."""


class RunError(DataEnvError, RuntimeError):
    """A run folder cannot be written, read or resumed. What was finished before stays on disk."""


class Note(UserWarning):
    """Something odd that stops nothing; the command line prints it as one line."""
