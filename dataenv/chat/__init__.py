"""Talking to a language model: one client (`client.Client`), and the ways to reach a model.

Adding a way is a file and a line here (or the entry-point group `dataenv.models`).
"""

from __future__ import annotations

from typing import Any

from dataenv.chat.question import Model
from dataenv.registry import Registry

models = Registry(
    "model",
    {
        "openai": ("dataenv.chat.openai:OpenAI", "any OpenAI-compatible server: openai:NAME (see OPENAI_BASE_URL)"),
        "local": ("dataenv.chat.local:Local", "in this process: local:smollm2-135m, local:ORG/NAME or local:FOLDER"),
        "vllm": ("dataenv.chat.vllm:vllm", "a vLLM engine started here, or a server: vllm:http://HOST:PORT"),
    },
)


def make_model(spec: str, **options: Any) -> Model:
    """A model by id, "openai:gpt-5-mini"; it is reached when first asked, not before. Raises UnknownId."""
    model: Model = models.make(spec, **options)
    return model
