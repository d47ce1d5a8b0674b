"""NaturalBench: two questions on two photographs each, so that no question and no picture alone gives the answers away
(Li et al. 2024, arXiv 2410.14669, Apache-2.0): 1,900 groups of four problems.

The first 50 groups are the feedback split, the last 50 the exam, as in the DataEnvGym paper; the others are divided
into exemplar, selection and pool by group. A problem is judged by itself, in the feedback split as in the exam: that
is the accuracy every record states. The benchmark's own figure, the share of groups of which all four are right, is
the `group_score` that a run's exam names beside it.

Source: https://huggingface.co/datasets/BaiqiL/NaturalBench, or a folder with its `data` (train-*.parquet).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from dataenv.errors import InvalidData
from dataenv.records import Problem, Prompt, Split, Verdict
from dataenv.tasks.pictures import PictureTask, picture_in
from dataenv.tasks.sources import Folder, Hub, Row
from dataenv.verifiers.short_answer import LONGEST, first_choice, short

REVISION = "b6a84a18ba24544169681d4b15543dd103d4d3bb"
"""The commit of the Hub dataset that is read when no folder is given."""

GROUPS = 50
"""Groups in the feedback split, and in the exam."""

KINDS = {
    "yes_no": ("yes or no", "Please answer Yes or No.", ("Yes", "No")),
    "multiple_choice": ("one of two", "Please output the letter corresponding to the correct option.", ("A", "B")),
}
"""Type of a question -> skill, instruction after the question, answers."""


class NaturalBench(PictureTask):
    """The naturalbench task, from `folder`, or from the Hub at `revision` when there is no folder.

    Nothing is read before the first use. Then InvalidData names the file and row that cannot be used, or says what to
    do when the Hub cannot be reached; MissingDependency names the command that installs `datasets`.
    """

    name = "naturalbench"
    skills = tuple(skill for skill, _, _ in KINDS.values())
    published: ClassVar[frozenset[Split]] = frozenset({"feedback", "exam"})
    max_new_tokens = 16

    def __init__(self, folder: str | None = None, *, revision: str = REVISION) -> None:
        instead = "download that data set's folder data and use naturalbench:FOLDER"
        self._source = Folder(Path(folder)) if folder else Hub("BaiqiL/NaturalBench", revision, instead)

    def questions(self) -> Iterator[tuple[str, Problem, Split | None]]:
        """Every group's four problems, in the order of the data set."""
        groups = list(self._source.rows("train"))
        if len(groups) <= 2 * GROUPS:
            raise InvalidData(f"{self.name} has {len(groups)} groups here; it needs more than {2 * GROUPS}.")
        for place, (where, row) in enumerate(groups):
            problems = _group(where, row, place)
            pictures = Prompt(text="", images=tuple(image for p in problems[:2] for image in p.prompt.images))
            first, last = place < GROUPS, place >= len(groups) - GROUPS
            split: Split = "feedback" if first else "exam" if last else self._hashed(pictures)
            yield from ((where, problem, split) for problem in problems)

    def problems(self, split: Split, per_skill: int | None, seed: int) -> list[Problem]:
        """As of any task, but group by group, so that no more than one group of a skill is drawn in part."""
        groups: dict[Any, list[Problem]] = {}
        for problem in super().problems(split, None, seed):
            groups.setdefault((problem.skill, problem.data["group"]), []).append(problem)
        found: dict[str, list[Problem]] = {}
        for (skill, _), group in groups.items():
            found.setdefault(skill, []).extend(group)
        return [problem for problems in found.values() for problem in problems[:per_skill]]

    def verify(self, problem: Problem, response: str) -> Verdict:
        """The first `Yes` or `No` of the response decides, or the first letter `A` or `B`, as a word of its own.

        In lower case a letter counts only where it is all that is said: `a` is an article.
        """
        choices = next((answers for _, _, answers in KINDS.values() if problem.answer in answers), ())
        said = first_choice(response, choices, cased=len(problem.answer) == 1)
        if said is None and len(response) < LONGEST and short(response) == short(problem.answer):
            said = problem.answer
        if said is not None and said == problem.answer:
            return Verdict(1.0, True, extracted=said)
        return Verdict(0.0, False, f"expected {problem.answer[:100]}", said)


def _group(where: str, row: Row, number: int) -> list[Problem]:
    """The four problems of a group: both pictures with the first question, then with the second."""
    kind = row.get("Question_Type", row.get("Question Type"))  # the data set has had both names
    if kind not in KINDS:
        raise InvalidData(f"{where}: 'Question_Type' must be one of {', '.join(KINDS)} (columns: {', '.join(row)}).")
    skill, instruction, answers = KINDS[kind]
    problems = []
    for question in (0, 1):
        for picture in (0, 1):
            text, answer = row.get(f"Question_{question}"), row.get(f"Image_{picture}_Question_{question}")
            if not isinstance(text, str) or not isinstance(answer, str) or answer.strip() not in answers:
                raise InvalidData(
                    f"{where}: 'Question_{question}' must be a text and 'Image_{picture}_Question_{question}' "
                    f"{' or '.join(answers)} (columns: {', '.join(row)})."
                )
            problems.append(
                Problem(
                    prompt=Prompt(
                        text=f"{text.strip()}\n{instruction}", images=(picture_in(row.get(f"Image_{picture}")),)
                    ),
                    answer=answer.strip(),
                    skill=skill,
                    data={"group": number, "group_size": 4},
                )
            )
    return problems
