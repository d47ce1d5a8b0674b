"""A model in this process: a student's base weights, never taught, spoken to through its chat template."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any

from dataenv.chat.question import Completion, Question
from dataenv.chat.structured import in_words
from dataenv.errors import CallFailed, InvalidData, ModelRefused

Waiting = list[tuple[Question, "asyncio.Future[Completion]"]]


class Local:
    """The model of any text student, by the student's id: "smollm2-135m", a Hub id or a folder.

    Args:
        source: as `dataenv.students.make_student` takes it.
        batch: answers that are written at a time; give the client at least as many slots.
        device, dtype: e.g. "cuda", "bfloat16"; None chooses the fastest this machine has.

    Questions that arrive together are answered together; an answer, sampled or not, follows from its question, whatever
    else is in its batch, up to rounding. There is no grammar: a form is asked for in words.
    A batch that is under way runs to its end, which `max_tokens` bounds.
    """

    def __init__(
        self, source: str = "smollm2-135m", *, batch: int = 16, device: str | None = None, dtype: str | None = None
    ) -> None:
        from dataenv.students import make_student
        from dataenv.students.weights import Base

        base = getattr(make_student(source), "base", None)
        if type(base) is not Base or base.images:  # a sharded student's weights are in other processes
            raise InvalidData(f"Student '{source}' has no model of text alone to talk to; choose another.")
        if batch < 1:
            raise InvalidData("A local model's batch must be at least 1.")
        self.id, self.where = f"local:{source}", f"The local model '{source}'"
        self.batch = batch
        self._base, self._device, self._dtype = base, device, dtype
        self._waiting: Waiting = []
        self._working: asyncio.Task[None] | None = None
        self._loaded: Any = None

    async def complete(self, question: Question) -> Completion:
        answer: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, answer))
        if self._working is None or self._working.done():
            self._working = asyncio.ensure_future(self._work())
        return await answer

    async def check(self) -> bool:
        """As `Model.check`: loads the weights."""
        await asyncio.to_thread(self._load)
        return True

    async def close(self) -> None:
        """Let go of the weights (the process keeps those of students)."""
        self._loaded = None

    async def _work(self) -> None:
        """Answer whatever waits, a batch at a time, until nothing does."""
        while self._waiting:
            await asyncio.sleep(0)  # those that set out together arrive together
            together: Waiting = self._waiting[: self.batch]
            del self._waiting[: self.batch]
            try:
                completions: list[Completion | Exception] = list(
                    await asyncio.to_thread(self._answer, [question for question, _ in together])
                )
            except Exception as error:
                completions = [error] * len(together)
            for (_, answer), completion in zip(together, completions, strict=True):
                if answer.done():  # cancelled
                    continue
                if isinstance(completion, Exception):
                    answer.set_exception(completion)
                else:
                    answer.set_result(completion)

    def _load(self) -> tuple[Any, Any, Any]:
        """(model, tokenizer, encoder); raises ModelRefused where the model cannot hold a conversation."""
        if self._loaded is None:
            from dataenv.students.encoding import Encoder

            model, tokenizer = self._base.load(self._device, self._dtype)
            if not getattr(tokenizer, "chat_template", None):
                raise ModelRefused(
                    f"{self.where} has no chat template; choose one that was trained to follow instructions."
                )
            self._loaded = model, tokenizer, Encoder(tokenizer, name=self._base.id)
        return self._loaded  # type: ignore[no-any-return]

    def _answer(self, questions: list[Question]) -> list[Completion | Exception]:
        """One outcome for each question, in order."""
        from dataenv.students.generation import generate
        from dataenv.students.generators import Sampling

        model, tokenizer, encoder = self._load()
        context = getattr(model.config, "max_position_embeddings", None)
        ends = model.generation_config.eos_token_id
        stop = frozenset({encoder.end, *(ends if isinstance(ends, list) else [] if ends is None else [ends])})
        outcomes: list[Completion | Exception] = []
        alike: dict[tuple[int, float], list[tuple[int, list[int]]]] = defaultdict(list)
        for at, question in enumerate(questions):
            messages = question.messages if question.json_schema is None else in_words(question)
            try:
                text = tokenizer.apply_chat_template(
                    [message.model_dump() for message in messages], tokenize=False, add_generation_prompt=True
                )
            except Exception as error:  # a template may refuse roles or their order, in whatever way
                outcomes.append(CallFailed(f"{self.where} takes no such conversation ({str(error).strip()})."))
                continue
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            outcomes.append(CallFailed(f"{self.where} reads {context} tokens, and the question has {len(ids)}."))
            if context is None or len(ids) < context:
                alike[question.max_tokens, question.temperature or 0.0].append((at, ids))
        for (limit, temperature), group in alike.items():
            replies = generate(
                model,
                [ids for _, ids in group],
                Sampling(limit, stop, temperature),
                seeds=[int(questions[at].key(self.id)[:15], 16) for at, _ in group],
                batch=self.batch,
            )
            for (at, ids), reply in zip(group, replies, strict=True):
                ended = bool(reply) and reply[-1] in stop
                outcomes[at] = Completion(
                    text=encoder.decode(reply[:-1] if ended else reply),
                    finish="stop" if ended else "length",
                    prompt_tokens=len(ids),
                    completion_tokens=len(reply),
                )
        return outcomes
