"""Talking to a language model: one client (`client.Client`), and the ways to reach a model.

Adding a way is a file and a line here (or the entry-point group `dataenv.models`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dataenv.chat.question import Model
from dataenv.registry import Registry

if TYPE_CHECKING:
    from dataenv.chat.client import Client

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


OF_CLIENT = frozenset({"concurrency", "tries", "wait", "longest_wait", "patience"})
"""Options of `make_client` that are the client's; see `client.Client`."""


def make_client(
    spec: str,
    *,
    cache: Path | str | None = None,
    usage: Path | str | None = None,
    tokens: int | None = None,
    dollars: float | None = None,
    prompt_price: float = 0.0,
    completion_price: float = 0.0,
    **options: Any,
) -> Client:
    """A client for a model by id. Nothing is opened.

    `tokens` and `dollars` are the most that may be used, what is in `cache`, or was by `usage`, included; the prices
    are dollars per million tokens. `options` are the client's (`OF_CLIENT`) and the model's own.
    """
    from dataenv.chat.budget import ChatBudget, Prices
    from dataenv.chat.cache import Cache
    from dataenv.chat.client import Client
    from dataenv.chat.ledger import Journal

    own = {name: options.pop(name) for name in OF_CLIENT & options.keys()}
    model, prices = make_model(spec, **options), Prices(prompt_price, completion_price)
    limited = cache is not None and (tokens is not None or dollars is not None)
    used = Cache(cache).used() if cache is not None and limited else (0, 0)
    if usage is not None:
        earlier = Journal(usage).read()  # more than is in the cache where answers were of no use
        used = max(used[0], earlier["prompt_tokens"]), max(used[1], earlier["completion_tokens"])
    budget = ChatBudget(tokens, dollars, used_tokens=sum(used), used_dollars=prices.of(*used))
    return Client(model, budget=budget, prices=prices, cache=cache, usage=usage, **own)
