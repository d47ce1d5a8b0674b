"""Who computes a student's replies: this process ("batched"), or a vLLM engine ("vllm", "vllm:http://HOST:PORT")."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from dataenv.registry import Registry
from dataenv.seeding import child_seed
from dataenv.students.weights import threads

if TYPE_CHECKING:
    from dataenv.students.causal_lm import CausalLM

generators = Registry(
    "generator",
    {
        "batched": ("dataenv.students.generators:Batched", "the student's own model, in this process"),
        "vllm": ("dataenv.students.vllm:Vllm", "a vLLM engine started here, or a server: vllm:http://HOST:PORT"),
    },
)


@dataclass(frozen=True)
class Sampling:
    """What the replies to all prompts of a call have in common.

    Args:
        max_new_tokens: most tokens of a reply.
        stop: tokens that end one.
        temperature: 0 is greedy.
        seed: of sampled replies.
    """

    max_new_tokens: int
    stop: frozenset[int]
    temperature: float = 0.0
    seed: int = 0

    def seeds(self, prompts: Sequence[list[int]]) -> list[int]:
        """One for each reply, from its prompt and how many equal ones come before it: company changes no reply. All 0
        where nothing is drawn."""
        if self.temperature <= 0:
            return [0] * len(prompts)
        before: Counter[str] = Counter()
        seeds = []
        for text in map(str, prompts):
            seeds.append(child_seed(self.seed, "reply", text, before[text]))
            before[text] += 1
        return seeds


class Generator(Protocol):
    """A way to compute replies. It holds no state of the student's, so an interrupted call leaves none behind."""

    def generate(self, student: CausalLM, prompts: Sequence[list[int]], sampling: Sampling) -> list[list[int]]:
        """New tokens for each prompt (a non-empty list of ids), in order, from the student's present weights.

        Each reply ends at a stop token, which it keeps, at the limit, or where `student.context` ends. Raises
        GenerationFailed when the generator broke down; the next call starts it afresh.
        """

    def rest(self) -> None:
        """Let go of the device, because the student is about to be taught on it; the next `generate` takes it back."""

    def close(self) -> None:
        """Free everything; safe to call twice, and a later `generate` starts anew."""


class Batched:
    """Decodes with the student's own resident model; see `generation.generate`."""

    def generate(self, student: CausalLM, prompts: Sequence[list[int]], sampling: Sampling) -> list[list[int]]:
        from dataenv.students.generation import generate
        from dataenv.students.lora import merged

        with threads(student.threads), merged(student.model):
            return generate(student.model, prompts, sampling, batch=student.answer_batch)

    def rest(self) -> None:
        """Nothing to let go of: the model that answers is the one that learns."""

    def close(self) -> None:
        """Nothing is held: the model is the student's."""
