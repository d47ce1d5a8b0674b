"""Prompts to tokens. The same prompt gives the same tokens before and after teaching, and in the training rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dataenv.errors import InvalidData
from dataenv.records import Example, Prompt


class Encoder:
    """Renders prompts (with exemplars before them) for one tokenizer, and knows where a reply ends.

    `template` None uses the tokenizer's own chat template; a string such as "{prompt}\\nAnswer: " is for models
    without one. `system` replaces the chat template's system message ("" for an empty one, None for its default).
    """

    def __init__(self, tokenizer: Any, *, name: str, template: str | None = None, system: str | None = None) -> None:
        if template is None and not getattr(tokenizer, "chat_template", None):
            raise InvalidData(
                f"Student '{name}' has no chat template; give one, for example template='{{prompt}}\\nAnswer: ' "
                "(--set 'student.template={prompt}\\nAnswer: ')."
            )
        if template is not None and "{prompt}" not in template:
            raise InvalidData(f"The template of student '{name}' must contain {{prompt}}; it is {template!r}.")
        self.tokenizer = tokenizer
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
        if prompt.images:
            raise InvalidData("A prompt with images was given to a text-only student; choose an image student.")
        if self.template is not None:
            before = "".join(self._fill(shot.prompt.text) + shot.completion + "\n\n" for shot in shots)
            return before + self._fill(prompt.text)
        text: str = self.tokenizer.apply_chat_template(
            self._messages(prompt, shots), tools=list(prompt.tools) or None, tokenize=False, add_generation_prompt=True
        )
        return text

    def decode(self, ids: Sequence[int]) -> str:
        """Text of a reply, without special tokens and surrounding white space."""
        text: str = self.tokenizer.decode(ids, skip_special_tokens=True)
        return text.strip()

    def _fill(self, text: str) -> str:
        assert self.template is not None
        return self.template.replace("{prompt}", text)

    def _messages(self, prompt: Prompt, shots: Sequence[Example]) -> list[dict[str, str]]:
        messages = [] if self.system is None else [{"role": "system", "content": self.system}]
        for shot in shots:
            messages.append({"role": "user", "content": shot.prompt.text})
            messages.append({"role": "assistant", "content": shot.completion})
        return [*messages, {"role": "user", "content": prompt.text}]

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
            text = self.tokenizer.apply_chat_template(
                [*self._messages(Prompt(text="?"), ()), {"role": "assistant", "content": mark}], tokenize=False
            )
            after = self._ids(text.rpartition(mark)[2])
            special = set(self.tokenizer.all_special_ids)
            for id in after:
                if id in special:
                    return id
        if self.tokenizer.eos_token_id is None:
            raise InvalidData("The tokenizer has no end-of-sequence token, so a reply could never end.")
        end: int = self.tokenizer.eos_token_id
        return end
