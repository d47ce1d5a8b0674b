"""The micro student: a Llama of 0.16M parameters over characters, pre-trained here in seconds, the same for a seed.

Its prior knowledge is uneven on purpose: it has learnt all drills on easy problems, then practised some and forgotten
others. So a teacher that looks at the student has something to find out, and something to gain within a few steps.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dataenv.errors import InvalidData
from dataenv.records import content_hash
from dataenv.seeding import child_seed, stream
from dataenv.students.weights import Base, build_once, cache_folder, threads

if TYPE_CHECKING:
    from dataenv.students.causal_lm import CausalLM

SHAPE: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "intermediate_size": 176,
    "max_position_embeddings": 128,
    "tie_word_embeddings": True,
    "initializer_range": 0.1,
}
CHARACTERS = "\n" + "".join(chr(code) for code in range(32, 127))
END = "<end>"

SCHOOL = {
    "addition": 8, "subtraction": 7, "comparison": 4, "modulo": 4, "multiplication": 4, "maximum": 4, "sequence": 3,
    "chain": 3, "copying": 3, "reversal": 3, "sorting": 4, "descending": 3, "shifting": 3, "counting": 3,
}  # fmt: skip
"""First everything is learnt: shares of `ROWS` easy rows (difficulty up to `TOP`)."""
ROWS, TOP, SCHOOL_RATE = 90_000, 0.5, 3e-3

LATELY = {
    "addition": 2500, "subtraction": 2500, "comparison": 2500, "modulo": 2500,
    "maximum": 250, "multiplication": 250, "sequence": 250, "chain": 250,
}  # fmt: skip
"""Then only these rows, at all difficulties, and the rest fades: what was known once is relearnt within few rows."""
LATE_RATE, BATCH, WINDOW = 3e-3, 32, 16


def micro(argument: str = "", **options: Any) -> CausalLM:
    """The micro student; "micro:3" or base_seed=3 has other prior knowledge. Trains in full unless told otherwise."""
    from dataenv.students.causal_lm import CausalLM

    base_seed = read_seed("micro", options.pop("base_seed", argument or 0))
    base = Base(f"micro-{base_seed}", partial(_find, base_seed))
    defaults: dict[str, Any] = {
        "name": "micro",
        "method": "full",
        "learning_rate": 7e-4,
        "epochs": 3,
        "batch": 32,
        "window": WINDOW,
        "micro_batch": 65_536,
        "answer_batch": 512,
        "template": "{prompt}",
        "max_length": SHAPE["max_position_embeddings"],
        "shots": 0,  # it has never seen two problems in a row: exemplars only confuse it
        "device": "cpu",
        "dtype": "float32",
        "threads": 1,  # too small to gain from more, and the sums are then the same on every machine
    }
    return CausalLM(base, **{**defaults, **options})


def read_seed(name: str, base_seed: object) -> int:
    """The base seed of student `name` as a number; raises InvalidData where it is none."""
    if not str(base_seed).isdecimal():
        raise InvalidData(
            f"The {name} student's base seed must be a whole number, as in '{name}:3'; it is '{base_seed}'."
        )
    return int(str(base_seed))


def made(base_seed: int = 0) -> bool:
    """Whether the base is in the cache already."""
    return (cache_folder() / _folder(base_seed)).exists()


def _folder(base_seed: int) -> str:
    from dataenv.tasks import drills

    recipe = [SHAPE, CHARACTERS, SCHOOL, ROWS, TOP, SCHOOL_RATE, LATELY, LATE_RATE, BATCH, base_seed]
    return f"micro-{content_hash(recipe, Path(drills.__file__).read_text())[:12]}"  # other drills, other practice


def _find(base_seed: int) -> str:
    return str(build_once(_folder(base_seed), partial(_make, base_seed=base_seed)))


def _make(folder: Path, base_seed: int) -> None:
    """Initialise, pre-train and save the base model and its tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from dataenv.records import Example
    from dataenv.students.encoding import Encoder
    from dataenv.students.recipe import Recipe
    from dataenv.students.training import train
    from dataenv.tasks import tasks

    tokenizer = _tokenizer()
    end = tokenizer.eos_token_id
    config = LlamaConfig(vocab_size=len(tokenizer), bos_token_id=None, eos_token_id=end, pad_token_id=0, **SHAPE)
    with torch.random.fork_rng():
        torch.manual_seed(child_seed(base_seed, "micro", "weights"))
        model = LlamaForCausalLM(config)
    encoder = Encoder(tokenizer, name="micro", template="{prompt}")
    drills = tasks.make("drills")

    def practise(phase: str, amounts: dict[str, int], top: float | None, rate: float) -> None:
        rows = []
        for skill, n in amounts.items():
            rng = stream(base_seed, "micro", phase, skill)
            while n > 0:  # few problems are easy, so they come again and again, as practice does
                problems = drills.write(skill, min(n, 64), None if top is None else float(rng.uniform(0, top)), rng)
                rows += [encoder.row(Example.from_problem(problem)) for problem in problems]
                n -= len(problems)
        recipe = Recipe(learning_rate=rate, batch=BATCH, window=WINDOW, micro_batch=65_536)
        with threads(1):
            train(model, rows, recipe, seed=child_seed(base_seed, "micro", phase, "order"))

    practise(
        "school", {skill: ROWS * share // sum(SCHOOL.values()) for skill, share in SCHOOL.items()}, TOP, SCHOOL_RATE
    )
    practise("lately", LATELY, None, LATE_RATE)
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
