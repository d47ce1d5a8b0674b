"""Scenes: short questions on small drawn pictures, without end, for students that see.

A problem is a picture of coloured figures and one line ("How many red circles are there?"); the answer is a word. The
picture states its figures to the pixel and the line its question, so `recognise` computes the truth of any prompt anew,
whoever wrote it. What the figures are, and what may be asked of them: `scene_picture`, `scene_questions`.

Difficulty runs from 0 (one to three large enough figures, plain questions) to 1 (up to ten, the smallest five pixels
wide, described by several traits, and the rare forms of each skill). The natural mix draws it as the square of a
uniform number, so most problems are on the easy side. No answer is much more frequent than the others of its form.
Source: original to this project, after CLEVR (Johnson et al. 2017, arXiv 1612.06890).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dataenv.errors import InvalidData
from dataenv.records import Problem, Prompt, Split, Verdict
from dataenv.tasks.minted import MintedTask
from dataenv.tasks.scene_picture import COLOURS, LARGE, SHAPES, SIDE, SMALL, Figure, draw, read
from dataenv.tasks.scene_questions import BUILDS_ON, FORMS, make_up, solve
from dataenv.tasks.splits import draw as draw_split
from dataenv.verifiers.short_answer import same_short

MOST_FIGURES = 12
"""Figures of the fullest picture that `Scenes.read` takes."""

_FORMS_OF = {skill: [name for name, form in FORMS.items() if form.skill == skill] for skill in BUILDS_ON}


class Scenes(MintedTask):
    """The scenes task; `Scenes("colour,counting")` keeps only those skills."""

    family = "scenes"
    images = True
    max_new_tokens = 10  # "triangles" letter by letter, and the end

    row_form: Mapping[str, Any] = {
        "type": "object",
        "properties": {
            "figures": {
                "type": "array",
                "minItems": 1,
                "maxItems": MOST_FIGURES,
                "items": {
                    "type": "object",
                    "properties": {
                        "shape": {"enum": list(SHAPES)},
                        "colour": {"enum": list(COLOURS)},
                        "diameter": {"enum": [*SMALL, *LARGE]},
                        "x": {"type": "integer", "minimum": 0, "maximum": SIDE - 1},
                        "y": {"type": "integer", "minimum": 0, "maximum": SIDE - 1},
                    },
                    "required": ["shape", "colour", "diameter", "x", "y"],
                    "additionalProperties": False,
                },
            },
            "question": {"type": "string"},
            "answer": {"type": "string"},
        },
        "required": ["figures", "question", "answer"],
        "additionalProperties": False,
    }
    row_guide = (
        f"A picture of {SIDE}x{SIDE} pixels, which will be drawn from `figures`; a question on it; its answer. "
        "A figure is centred on the pixel (x, y), counted from the top left corner. Diameters of "
        f"{SMALL[0]} to {SMALL[-1]} are called small, of {LARGE[0]} to {LARGE[-1]} large. Figures lie wholly inside "
        "the picture and do not touch: two centres are further apart, across or down, than half of both diameters "
        "and a pixel. `question` has one of the forms below, where ONE stands for a description of exactly one figure "
        "('circle', 'small shape', 'large red square'), MANY for one of any number ('circles', 'small red shapes'), "
        "and of words between bars one is taken. `answer` is the word or number that is true of the picture. "
        "The forms: "
    ) + " ".join(form.sentence for form in FORMS.values())

    def __init__(self, skills: str | Sequence[str] | None = None) -> None:
        super().__init__(skills, BUILDS_ON)

    def verify(self, problem: Problem, response: str) -> Verdict:
        """Right when the response is the answer alone, whatever its case, punctuation, articles; `two` is `2`."""
        if same_short(response, problem.answer):
            return Verdict(1.0, True, extracted=problem.answer)
        return Verdict(0.0, False, f"expected {problem.answer}", response[:100].strip())

    def recognise(self, prompt: Prompt) -> Problem | None:
        """The problem that a picture and a line state, with the answer computed anew from the pixels.

        None for a picture that `scene_picture.draw` did not make, and for a line that asks nothing this task knows.
        """
        if len(prompt.images) != 1 or prompt.tools or len(prompt.text) > 200:
            return None
        figures = read(prompt.images[0])
        solved = None if figures is None else solve(prompt.text.strip(), figures)
        if solved is None or FORMS[solved[0]].skill not in self.skills:
            return None
        return Problem(prompt=prompt, answer=solved[1], skill=FORMS[solved[0]].skill)

    def told(self, problem: Problem) -> dict[str, Any]:
        """The figures of the problem's picture, its question and its answer, as a language model is shown them."""
        figures = read(problem.prompt.images[0]) if problem.prompt.images else None
        if figures is None:
            raise InvalidData("scenes can tell only of pictures that it drew.")
        return {
            "figures": [figure._asdict() for figure in figures],
            "question": problem.prompt.text,
            "answer": problem.answer,
        }

    def read(self, written: Mapping[str, Any]) -> Problem:
        """Draws the picture of a row in `row_form` and checks its answer against the truth."""
        try:
            figures = [Figure(**figure) for figure in written["figures"]]
            question, stated = str(written["question"]).strip(), str(written["answer"])
            if not all(_drawable(figure) for figure in figures):
                raise ValueError
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidData("not a scene, a question and an answer") from error
        if not 0 < len(figures) <= MOST_FIGURES:
            raise InvalidData("too many figures, or none")
        if not all(figure.inside for figure in figures):
            raise InvalidData("a figure is not wholly in the picture")
        if not all(a.clear_of(b) for i, a in enumerate(figures) for b in figures[:i]):
            raise InvalidData("figures touch each other")
        solved = solve(question, figures) if len(question) <= 200 else None
        if solved is None:
            raise InvalidData("its question has no known form, or no one answer on its picture")
        if not same_short(stated, solved[1]):
            raise InvalidData("its answer is not true of its picture")
        return Problem(prompt=Prompt(text=question, images=(draw(figures),)), answer=solved[1])

    def _subskills(self, skill: str) -> tuple[str, ...]:
        """The skill's forms of question, where it has more than one, from the common to the rare."""
        forms = _FORMS_OF[skill]
        return tuple(forms) if len(forms) > 1 else ()

    def _draw(
        self,
        skill: str,
        split: Split,
        n: int,
        difficulty: float | None,
        rng: np.random.Generator,
        subskill: str | None = None,
    ) -> list[Problem]:
        forms = [subskill] if subskill else _FORMS_OF[skill]

        def write_one(rng: np.random.Generator) -> Problem | None:
            uniform = rng.random
            d = uniform() ** 2 if difficulty is None else difficulty
            # The first form alone at difficulty 0, all of them alike at 1.
            form = forms[int(uniform() * (1 + d**0.5 * (len(forms) - 1)))]
            made = make_up(uniform, form, d)
            if made is None:
                return None
            figures, question, answer = made
            return Problem(
                prompt=Prompt(text=question, images=(draw(figures),)),
                answer=answer,
                skill=skill,
                subskill=subskill,
                difficulty=d,
            )

        return draw_split(write_one, split, n, rng, patience=500)


def _drawable(figure: Figure) -> bool:
    return (
        figure.shape in SHAPES
        and figure.colour in COLOURS
        and figure.diameter in (*SMALL, *LARGE)
        and all(type(number) is int for number in (figure.diameter, figure.x, figure.y))
    )
