"""The micro student: a Llama of 0.16M parameters over characters, pre-trained here in seconds, the same for a seed.

Its prior knowledge is uneven on purpose: some drills it has practised, some it has seen, some it has never met. So a
teacher that looks at the student has something to find out.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dataenv.records import content_hash
from dataenv.seeding import child_seed, stream
from dataenv.students.weights import Base, build_once, cache_folder

if TYPE_CHECKING:
    from dataenv.students.causal_lm import CausalLM

SHAPE = {
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "intermediate_size": 176,
    "max_position_embeddings": 128,
    "tie_word_embeddings": True,
}
CHARACTERS = "\n" + "".join(chr(code) for code in range(32, 127))
END = "<end>"

PRACTICE = {"rows": 16_000, "mastered": 6, "met": 2, "unmet": 0, "learning_rate": 3e-3, "batch": 128, "top_difficulty": 0.5}
"""Pre-training: rows in all, and the shares by which the drills (in a drawn order, a third each) divide them."""


def micro(argument: str = "", **options: Any) -> CausalLM:
    """The micro student; "micro:3" or base_seed=3 has other prior knowledge. Trains in full unless told otherwise."""
    from dataenv.students.causal_lm import CausalLM

    base_seed = int(options.pop("base_seed", argument or 0))
    base = Base(f"micro-{base_seed}", partial(_find, base_seed))
    defaults: dict[str, Any] = {
        "name": "micro",
        "method": "full",
        "learning_rate": 3e-3,
        "batch": 64,
        "micro_batch": 65_536,
        "answer_batch": 512,
        "template": "{prompt}",
        "max_length": SHAPE["max_position_embeddings"],
        "shots": 0,  # it has never seen two problems in a row: exemplars only confuse it
        "device": "cpu",
        "dtype": "float32",
    }
    return CausalLM(base, **{**defaults, **options})


def made(base_seed: int = 0) -> bool:
    """Whether the base is in the cache already."""
    return (cache_folder() / _folder(base_seed)).exists()


def _folder(base_seed: int) -> str:
    recipe = {"shape": SHAPE, "practice": PRACTICE, "characters": CHARACTERS, "seed": base_seed, "made": 1}
    return f"micro-{content_hash(recipe)[:12]}"


def _find(base_seed: int) -> str:
    return str(build_once(_folder(base_seed), partial(_make, base_seed=base_seed)))


def practised(skills: tuple[str, ...], base_seed: int) -> dict[str, int]:
    """How many rows of each skill the base was pre-trained on."""
    order = stream(base_seed, "micro", "prior").permutation(len(skills))
    shares = {skills[i]: (PRACTICE["mastered"], PRACTICE["met"], PRACTICE["unmet"])[3 * rank // len(skills)] for rank, i in enumerate(order)}
    return {skill: int(PRACTICE["rows"] * share / sum(shares.values())) for skill, share in shares.items()}


def _make(folder: Path, base_seed: int) -> None:
    """Initialise, pre-train and save the base model and its tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from dataenv.records import Example
    from dataenv.students.encoding import Encoder
    from dataenv.students.training import Recipe, train
    from dataenv.tasks import tasks

    tokenizer = _tokenizer()
    end = tokenizer.eos_token_id
    config = LlamaConfig(vocab_size=len(tokenizer), bos_token_id=None, eos_token_id=end, pad_token_id=0, **SHAPE)
    with torch.random.fork_rng():
        torch.manual_seed(child_seed(base_seed, "micro", "weights"))
        model = LlamaForCausalLM(config)
    encoder = Encoder(tokenizer, name="micro", template="{prompt}")
    drills = tasks.make("drills")
    rows = []
    for skill, n in practised(drills.skills, base_seed).items():
        rng = stream(base_seed, "micro", "rows", skill)
        while n > 0:  # skills with few distinct problems are repeated, as practice is
            chunk = [p for d in rng.uniform(0, PRACTICE["top_difficulty"], 32) for p in drills.write(skill, max(1, n // 32 + 1), float(d), rng)][:n]
            rows += [encoder.row(Example.from_problem(problem)) for problem in chunk]
            n -= len(chunk)
    recipe = Recipe(learning_rate=PRACTICE["learning_rate"], batch=int(PRACTICE["batch"]), micro_batch=65_536)
    train(model, rows, recipe, seed=child_seed(base_seed, "micro", "order"))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _tokenizer() -> Any:
    """One token per character; unknown characters become one unknown token each."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: id for id, token in enumerate(["<pad>", END, "<unknown>", *CHARACTERS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unknown>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token=END, unk_token="<unknown>")
