"""What passes between those who ask, the client, and the models that answer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol, Self, runtime_checkable

from pydantic import Field, JsonValue, field_validator

from dataenv.errors import ChatError
from dataenv.records import Record, content_hash


class Message(Record):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str

    @field_validator("content", mode="before")
    @classmethod
    def _encodable(cls, value: Any) -> Any:
        """Halves of surrogate pairs, which cannot be sent, become question marks."""
        return value.encode(errors="replace").decode() if isinstance(value, str) else value


class Question(Record):
    """One call: a conversation that the model is to continue, and how. A plain string is one message of the user.

    `json_schema` is the form the answer must have (JSON Schema, an object at the top). `max_tokens` bounds the answer,
    thinking included. `temperature` None leaves it to the model. Answers that are to be independent of each other
    need different `seed`s, for equal questions have one answer in a cache or on a tape.
    """

    messages: tuple[Message, ...] = Field(min_length=1)
    json_schema: dict[str, JsonValue] | None = None
    max_tokens: int = Field(default=1024, ge=1)
    temperature: float | None = Field(default=None, ge=0.0)
    seed: int | None = None

    @field_validator("messages", mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return ({"role": "user", "content": value},) if isinstance(value, str) else value

    @classmethod
    def of(cls, text: str, *, system: str = "", **settings: Any) -> Self:
        """A question of one message of the user, after a system message where there is one."""
        turns = [{"role": "system", "content": system}] if system else []
        return cls.model_validate({"messages": [*turns, {"role": "user", "content": text}], **settings})

    @cached_property
    def prompt_bound(self) -> int:
        """Tokens the prompt has at most: a token is at least one byte of text, and a template adds a few a message."""
        form = 0 if self.json_schema is None else 2 * len(repr(self.json_schema).encode(errors="replace")) + 256
        return form + sum(len(message.content.encode(errors="replace")) + 64 for message in self.messages)

    def key(self, model: str) -> str:
        """Hash of the question as put to `model`: what caches and tapes know it by."""
        return content_hash(model, self.model_dump(mode="json"))


class Completion(Record):
    """What a model wrote, and the tokens it took. `finish` is "length" where `max_tokens` cut it."""

    text: str
    finish: Literal["stop", "length"] = "stop"
    prompt_tokens: int = Field(default=0, ge=0)
    completion_tokens: int = Field(default=0, ge=0)


@dataclass(frozen=True)
class Answer:
    """The answer to one question: `text` as written and, where a form was asked for, `data` that fits it.

    Tokens, dollars and retries are those of all the calls it took; `cached` says that it took none.
    """

    text: str
    data: Any = None
    finish: Literal["stop", "length"] = "stop"
    prompt_tokens: int = 0
    completion_tokens: int = 0
    dollars: float = 0.0
    retries: int = 0
    repaired: bool = False
    cached: bool = False


@dataclass(frozen=True)
class Failure:
    """Stands in the place of an answer that there is none of, and says why."""

    error: ChatError
    retries: int = 0


class Trouble(Exception):
    """A try failed in a way that another may not.

    Args:
        reason: what happened, without a full stop.
        wait: seconds the server asks to wait.
        lost: whether the server may have worked, and charged, for an answer that did not arrive.
        unreachable: whether there was no server at all.
    """

    def __init__(
        self, reason: str, *, wait: float | None = None, lost: bool = False, unreachable: bool = False
    ) -> None:
        super().__init__(reason)
        self.reason, self.wait, self.lost, self.unreachable = reason, wait, lost, unreachable


@runtime_checkable
class Model(Protocol):
    """A way to reach one language model. The constructor opens nothing and needs no key."""

    @property
    def id(self) -> str:
        """What its answers depend on besides the question: equal ids may share a cache or tape. Never holds a key."""

    @property
    def where(self) -> str:
        """The model and where it is, in words, for messages."""

    async def complete(self, question: Question) -> Completion:
        """One try. Raises Trouble when another may succeed; CallFailed or BadAnswer when this question cannot;
        ModelRefused, ServerFailing, InvalidData or MissingDependency when none can."""

    async def check(self) -> bool:
        """Reach the model, or raise as `complete` does. False where only a question can show that it answers."""

    async def close(self) -> None:
        """Free what is held; safe to call twice, and a later `complete` opens it again."""
