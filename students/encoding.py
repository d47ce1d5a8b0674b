"""Prompts to tokens. The same prompt gives the same tokens before and after teaching, and in the training rows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from dataenv.errors import InvalidData
from dataenv.records import Example, Prompt
from dataenv.students.tool_text import tool_text


class Encoder:
    """Renders prompts (with exemplars before them) for one tokenizer, and knows where a reply ends.

    `writer` is what holds the chat template and fills it in: the tokenizer, or a processor around it. `template` None
    uses that; a string such as "{prompt}\\nAnswer: " is for models without one. `system` replaces the chat template's
    system message ("" for an empty one, None for its default).

    Tools go where the chat template has a place for them; where it has none, and with a plain template, they stand as
    text before the prompt (`tool_text`), an empty line between.
    """

    takes_images = False

    def __init__(
        self,
        tokenizer: Any,
        *,
        name: str,
        template: str | None = None,
        system: str | None = None,
        writer: Any = None,
    ) -> None:
        self.writer = tokenizer if writer is None else writer
        if template is None and not getattr(self.writer, "chat_template", None):
            raise InvalidData(
                f"Student '{name}' has no chat template; give one, for example template='{{prompt}}\\nAnswer: ' "
                "(--set 'student.template={prompt}\\nAnswer: ')."
            )
        if template is not None and "{prompt}" not in template:
            raise InvalidData(f"The template of student '{name}' must contain {{prompt}}; it is {template!r}.")
        self.tokenizer = tokenizer
        self.name = name
        self.template = template
        self.system = system
        self.end = self._end_of_reply()
        # A chat template writes the begin token itself; a plain one leaves it to us, if the tokenizer would add it.
        begin = None if template is None else tokenizer.bos_token_id
        self._begin = [begin] if begin is not None and tokenizer("x")["input_ids"][:1] == [begin] else []

    def prompt(self, prompt: Prompt, shots: Sequence[Example] = ()) -> list[int]:
        """Token ids of everything up to where the reply begins; never none, for a model must read something first."""
        ids = self._ids(self.render(prompt, shots))
        if ids[:1] != self._begin:
            ids = self._begin + ids
        return ids or [self.end]

    def row(self, example: Example) -> tuple[list[int], list[int]]:
        """Token ids of a training row: (the prompt exactly as at inference, the completion with its end token)."""
        return self.prompt(example.prompt), self._answer(example.completion)

    def pair(self, example: Example) -> tuple[list[int], list[int], list[int]]:
        """Token ids of a preference pair: `row`'s, and the rejected completion with its end token."""
        assert example.rejected is not None
        return *self.row(example), self._answer(example.rejected)

    def render(self, prompt: Prompt, shots: Sequence[Example] = ()) -> str:
        """The text that `prompt` encodes."""
        if not self.takes_images and (prompt.images or any(shot.prompt.images for shot in shots)):
            raise InvalidData(
                f"A prompt with images was given to student '{self.name}', which reads text only; choose an image "
                "student, for example 'micro-vision' or 'vlm:ORG/NAME'."
            )
        # A template has one place for tools, the prompt's; an exemplar that has others keeps them as text.
        shots = [s if self._takes_tools and s.prompt.tools == prompt.tools else _worded(s) for s in shots]
        prompt = prompt if self._takes_tools else _with_tools_as_text(prompt)
        if self.template is not None:
            before = "".join(self._fill(shot.prompt) + shot.completion + "\n\n" for shot in shots)
            return before + self._fill(prompt)
        tools = list(prompt.tools) or None
        return self._written(self._messages(prompt, shots), tools=tools, add_generation_prompt=True)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of a reply, without special tokens and surrounding white space."""
        text: str = self.tokenizer.decode(ids, skip_special_tokens=True)
        return text.strip()

    @cached_property
    def _takes_tools(self) -> bool:
        """Whether the chat template says what tools there are. Many ignore them without a word."""
        if self.template is not None:
            return False
        name = "probe_of_tools"
        probe = {"name": name, "description": "", "parameters": {"type": "object", "properties": {}}}
        try:
            tools = [{"type": "function", "function": probe}]
            text = self._written(self._messages(Prompt(text="?"), ()), tools=tools)
        except InvalidData:
            return False
        return name in text

    def _written(self, messages: list[dict[str, Any]], **options: Any) -> str:
        """The conversation as the chat template has it. Raises InvalidData where it refuses, in whatever way."""
        try:
            text: str = self.writer.apply_chat_template(messages, tokenize=False, **options)
        except Exception as error:
            why = str(error).strip().rstrip(".")
            raise InvalidData(
                f"The chat template of student '{self.name}' refuses a conversation ({why}); leave out what it has no "
                "place for (system, shots), or give another template."
            ) from error
        return text

    def _fill(self, prompt: Prompt) -> str:
        assert self.template is not None
        return self.template.replace("{prompt}", prompt.text)

    def _messages(self, prompt: Prompt, shots: Sequence[Example]) -> list[dict[str, Any]]:
        messages = [] if self.system is None else [self._message("system", Prompt(text=self.system))]
        for shot in shots:
            messages.append(self._message("user", shot.prompt))
            messages.append(self._message("assistant", Prompt(text=shot.completion)))
        return [*messages, self._message("user", prompt)]

    def _message(self, role: str, said: Prompt) -> dict[str, Any]:
        return {"role": role, "content": said.text}

    def _answer(self, text: str) -> list[int]:
        return [*self._ids(text), self.end]

    def _ids(self, text: str) -> list[int]:
        # The chat template writes the special tokens itself; adding them again would double the begin token.
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _end_of_reply(self) -> int:
        """The token after an assistant's words: the chat template's own, else the tokenizer's end of sequence."""
        if self.template is None:
            mark = "@@reply@@"
            text = self._written([*self._messages(Prompt(text="?"), ()), self._message("assistant", Prompt(text=mark))])
            after = self._ids(text.rpartition(mark)[2])
            special = set(self.tokenizer.all_special_ids)
            for id in after:
                if id in special:
                    return id
        if self.tokenizer.eos_token_id is None:
            raise InvalidData("The tokenizer has no end-of-sequence token, so a reply could never end.")
        end: int = self.tokenizer.eos_token_id
        return end


def _with_tools_as_text(prompt: Prompt) -> Prompt:
    if not prompt.tools:
        return prompt
    return Prompt(text=f"{tool_text(prompt.tools)}\n\n{prompt.text}", images=prompt.images)


def _worded(shot: Example) -> Example:
    return shot.model_copy(update={"prompt": _with_tools_as_text(shot.prompt)}) if shot.prompt.tools else shot
