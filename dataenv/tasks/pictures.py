"""What tasks over a fixed set of questions on pictures share: splits by picture, and pictures that cannot be read."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

from dataenv.errors import InvalidData, Note
from dataenv.images import fault
from dataenv.records import Image, Problem, Prompt, Split, Verdict
from dataenv.tasks.fixed import FixedTask
from dataenv.verifiers.short_answer import same_short


def picture_in(cell: Any) -> Image:
    """The picture in a cell of a table: bytes, or an object that holds them as `bytes`; empty where there is none."""
    data = cell.get("bytes") if isinstance(cell, dict) else cell
    return Image(data=data if isinstance(data, bytes) else b"")


class PictureTask(FixedTask):
    """Questions on pictures with short answers: a subclass says which (`questions`), and may judge otherwise.

    A picture is in one split only, with all questions on it. Problems whose picture cannot be read are left out; how
    many stands in `unreadable`, and a `Note` names the first of them. InvalidData where no other is left.
    """

    images = True
    unreadable = 0

    def questions(self) -> Iterator[tuple[str, Problem, Split | None]]:
        """Every problem after where it comes from, before its published split, if any. Called once."""
        raise NotImplementedError

    def load(self) -> Iterator[tuple[Problem, Split | None]]:
        """The problems whose pictures can be read."""
        faults: dict[str, str | None] = {}
        left_out, some = [], False
        for where, problem, split in self.questions():
            for image in problem.prompt.images:
                if image.sha256 not in faults:
                    faults[image.sha256] = fault(image)
            if bad := [said for image in problem.prompt.images if (said := faults[image.sha256])]:
                left_out.append(f"{where} ({bad[0]})")
            else:
                some = True
                yield problem, split
        self.unreadable = len(left_out)
        if left_out:
            more = f" and {len(left_out) - 3} more" if len(left_out) > 3 else ""
            said = f"{self.name}: problems whose picture cannot be read are left out: {'; '.join(left_out[:3])}{more}."
            if not some:
                raise InvalidData(said)
            warnings.warn(said, Note, stacklevel=2)

    def verify(self, problem: Problem, response: str) -> Verdict:
        """Right when the response is the answer alone, whatever its case, punctuation, articles; `two` is `2`."""
        if same_short(response, problem.answer):
            return Verdict(1.0, True, extracted=problem.answer)
        return Verdict(0.0, False, f"expected {problem.answer[:100]}", response[:100].strip())

    def _hashed(self, prompt: Prompt) -> Split:
        return super()._hashed(Prompt(text="", images=prompt.images))
