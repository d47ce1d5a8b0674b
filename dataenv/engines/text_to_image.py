"""Rows with painted pictures: a language model describes them, asks and answers; `diffusers` paints.

As in the system of the paper, but each picture is checked against its question by a judge (`Confirmed`): a painter
paints what it likes, and a row whose picture does not show its answer teaches to guess.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, cast

from dataenv.checks import real, whole
from dataenv.engines.authoring import InForm
from dataenv.engines.confirming import Confirmed
from dataenv.engines.llm import LLM
from dataenv.engines.writing import EMPTY, Call
from dataenv.errors import GenerationFailed, InvalidData, MissingDependency
from dataenv.images import encoded
from dataenv.protocols import AuthoredTask, Task
from dataenv.records import Example, Image, Problem, Prompt, Request
from dataenv.seeding import child_seed, stream

UNPAINTED = "unpainted"
"""Why a row is dropped: the painter's safety checker blackened its picture, or it is of one colour."""
NONE = "none"


class Painter:
    """A text-to-image pipeline of `diffusers`; it loads when it first paints.

    The preset is SDXL-Turbo's, whose 4 steps need no guidance (Sauer et al. 2023, arXiv 2311.17042).

    Args:
        model: Hub id or folder of a pipeline.
        steps, guidance: of denoising. `side`: pixels in each direction; None is the pipeline's own choice.
        batch: pictures painted at a time. `device`: None is "cuda" where there is one.
    """

    def __init__(
        self,
        model: str = "stabilityai/sdxl-turbo",
        *,
        steps: int = 4,
        guidance: float = 0.0,
        side: int | None = None,
        batch: int = 4,
        device: str | None = None,
    ) -> None:
        self.model, self.device = model, device
        self.steps, self.batch = whole("painter: steps", steps), whole("painter: batch", batch)
        self.guidance = real("painter: guidance", guidance, 0, 100)
        self.side = None if side is None else whole("painter: side", side, least=8)

    def paint(self, descriptions: Sequence[str], seeds: Sequence[int]) -> list[Image | None]:
        """A PNG of each description, the same for a seed; None where there is nothing to see.

        Raises MissingDependency without diffusers or the weights, GenerationFailed where the pipeline breaks down.
        """
        import torch

        size = {} if self.side is None else {"height": self.side, "width": self.side}
        painted: list[Image | None] = []
        for first in range(0, len(descriptions), self.batch):
            part = slice(first, first + self.batch)
            try:
                made = self._pipeline(
                    prompt=list(descriptions[part]),
                    num_inference_steps=self.steps,
                    guidance_scale=self.guidance,
                    generator=[torch.Generator().manual_seed(seed) for seed in seeds[part]],
                    **size,
                )
            except (RuntimeError, ValueError) as error:
                raise GenerationFailed(f"{self.model} could not paint ({str(error).strip()}).") from error
            unsafe = getattr(made, "nsfw_content_detected", None) or [False] * len(made.images)
            for picture, flagged in zip(made.images, unsafe, strict=True):
                plain = all(low == high for low, high in picture.convert("RGB").getextrema())
                painted.append(None if flagged or plain else encoded(picture))
        return painted

    @cached_property
    def _pipeline(self) -> Any:
        try:
            import torch
            from diffusers import DiffusionPipeline
        except ImportError as error:
            raise MissingDependency(
                'Painting needs diffusers: pip install "dataenv[diffusion]" (without a GPU, first torch for CPUs).'
            ) from error
        device = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
        kind = torch.float16 if device.startswith("cuda") else torch.float32
        try:
            pipeline = DiffusionPipeline.from_pretrained(self.model, dtype=kind).to(device)
        except (OSError, ValueError, RuntimeError) as error:
            first = str(error).strip().splitlines()[0]
            raise MissingDependency(
                f"The painter '{self.model}' could not be loaded ({first}); fetch it where the Hub can be reached with "
                f"'hf download {self.model}', or give the folder that holds it."
            ) from error
        pipeline.set_progress_bar_config(disable=True)  # its lines would tear ours
        return pipeline


class Described:
    """How a language model writes a question on a picture that is still to be painted (`protocols.AuthoredTask`)."""

    row_form: Mapping[str, Any] = {
        "type": "object",
        "properties": {name: {"type": "string"} for name in ("description", "question", "answer")},
        "required": ["description", "question", "answer"],
        "additionalProperties": False,
    }
    row_guide = (
        "`description` is a caption, of at most 60 words, from which a picture will be painted. It names everything "
        "that the question is about, and says it so that the answer can be seen: how many, which colours, what is "
        "where. A painter shows few objects well, and no written words. `question` is asked about the painted picture, "
        "is not answered by itself, and does not mention the description. `answer` is short, in the form of the "
        "examples', whose pictures you are not shown."
    )

    def told(self, problem: Problem) -> dict[str, Any]:
        """A solved problem in the form; what its picture shows is not known in words."""
        return {"description": "(a picture)", "question": problem.prompt.text, "answer": problem.answer}

    def read(self, written: Mapping[str, Any]) -> Problem:
        """The question and its answer, without the picture."""
        return Problem(prompt=Prompt(text=written["question"].strip()), answer=written["answer"].strip())


class TextToImage(LLM):
    """Rows for a task with pictures: the language model writes descriptions with a question and an answer, the painter
    paints them, and the judge confirms that the picture shows the answer.

    A row's provenance keeps the description and the painter. Rows come to nothing as those of `LLM` do, and as
    "unpainted" or "unconfirmed".

    Args:
        model, steps, guidance, side, device: the painter's; see `Painter`. `painter` stands for all of them: any object
            with `model` and `paint`.
        judge: id of the image student that checks pictures against questions ("vlm:ORG/NAME"), or "none" to teach rows
            that nobody has checked; InvalidData without.
        samples, agreement: of `Confirmed`.
    """

    name = "text-to-image"

    def __init__(
        self,
        model: str = "stabilityai/sdxl-turbo",
        *,
        task: Task,
        judge: str = "",
        samples: int = 5,
        agreement: float = 0.6,
        steps: int = 4,
        guidance: float = 0.0,
        side: int | None = None,
        device: str | None = None,
        painter: Painter | None = None,
        **options: Any,
    ) -> None:
        super().__init__(task, **{**options, "solutions": 0})  # who sees no picture solves no problem
        self.author = InForm(cast(AuthoredTask, Described()))  # of a task it uses no more than that
        self.painter = painter or Painter(model, steps=steps, guidance=guidance, side=side, device=device)
        self.judge = None
        if not judge:
            raise InvalidData(
                "The text-to-image engine does not teach pictures that nobody has looked at: set its judge to an image "
                "student's id (--set engine.judge=vlm:ORG/NAME), or to 'none' if they shall be taught unchecked."
            )
        if judge != NONE:
            self.judge = Confirmed(judge, task=task, samples=samples, agreement=agreement)

    def _rows(self, call: Call, request: Request, data: Any) -> Iterator[Example]:
        seed = call.question.seed or 0
        written = [row for row in data["rows"] if row["description"].strip()]
        if blank := len(data["rows"]) - len(written):
            self.dropped.drop(EMPTY, n=blank)
        descriptions = [row["description"].strip() for row in written]
        seeds = [child_seed(seed, "paint", place, said) for place, said in enumerate(descriptions)]
        rows = []
        for row, said, picture in zip(written, descriptions, self.painter.paint(descriptions, seeds), strict=True):
            example = self.author.read(row, request.skill)
            if picture is None:
                self.dropped.drop(UNPAINTED, said)
                continue
            rows.append(
                example.model_copy(
                    update={
                        "prompt": Prompt(text=example.prompt.text, images=(picture,)),
                        "subskill": request.subskill,
                        "difficulty": request.difficulty,
                        "provenance": {"description": said, "painter": self.painter.model},
                    }
                )
            )
        reasons = self.judge(rows, stream(seed, "judge")) if self.judge else [None] * len(rows)
        for example, reason in zip(rows, reasons, strict=True):
            if reason is None:
                yield example
            else:
                self.dropped.drop(reason, example)
