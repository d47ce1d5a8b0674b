"""A task without the power to tell the truth: for trials of what wrong rows do to a student."""

from __future__ import annotations

from typing import Any

from dataenv.protocols import Task
from dataenv.records import Prompt
from dataenv.tasks import tasks


class Unverified:
    """`unverified:TASK`: the same task, but it recognises no prompt, so that the gate judges a row by the answer it
    states itself. Examinations are judged as ever.

    Not for real runs: neither wrong rows nor, where the task writes its problems, rows of other splits are found out.
    """

    def __init__(self, task: str | Task) -> None:
        self.task: Task = tasks.make(task) if isinstance(task, str) else task
        self.name = f"unverified:{self.task.name}"

    def recognise(self, prompt: Prompt) -> None:
        """Nothing."""
        return None

    def __getattr__(self, name: str) -> Any:
        if name == "task":  # of a copy that is being made
            raise AttributeError(name)
        return getattr(self.task, name)
