"""The micro image student: a LLaVA of 0.6M parameters from scratch, pre-trained here in a minute, the same for a seed.

It sees 64x64 pixels in 16 patches, and reads and writes small words. As LLaVA (Liu et al. 2023, arXiv 2304.08485) it
first learns to say what is in a picture, which binds what it sees to words far faster than answers of one word do. Then
it learns to answer questions of `scenes`, many of some skills and a few of the others: its knowledge is uneven on
purpose, as that of `micro`, and what it has not been asked about is learnt fast, for it is seen already.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dataenv.records import Example, content_hash
from dataenv.seeding import child_seed, stream
from dataenv.students.micro import read_seed
from dataenv.students.weights import Base, build_once, threads

if TYPE_CHECKING:
    from dataenv.students.vision_lm import VisionLM

SIDE, PATCH = 64, 16
SIGHT: dict[str, Any] = {
    "image_size": SIDE,
    "patch_size": PATCH,
    "hidden_size": 96,
    "intermediate_size": 192,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "vision_use_head": False,
}
SPEECH: dict[str, Any] = {
    "hidden_size": 96,
    "intermediate_size": 192,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 256,
    "tie_word_embeddings": True,
    "initializer_range": 0.05,
}
MEAN, DEVIATION = 0.9, 0.3
"""Of a pixel: the light ground of a drawing becomes nothing, and figures stand out."""
WORDS = (
    "a above all an and any are as at below between both bottom but can color colour colours contain describe "
    "different do does each equal every exactly farthest few fewer figure figures from has have here how i image in "
    "inside is it its large larger largest least left leftmost less lowest many more most near nearest next no none "
    "not number object objects of on one only or other picture present rightmost right same shape shapes side size "
    "small smaller smallest some than that the there these this those to top topmost touch two three under what where "
    "which with without yes "
    "black blue brown gray green orange pink purple red teal white yellow "
    "circle circles cross crosses rectangle rectangles square squares star triangle triangles"
)
END, IMAGE = "<end>", "<image>"

CAPTIONS, TOP = 16_000, 0.5
"""Easy pictures (difficulty up to `TOP`) that it learns to describe."""
SCHOOL = {
    "colour": 900, "size": 500, "logic": 300,
    "shape": 40, "position": 40, "counting": 40, "comparison": 40, "relations": 40,
}  # fmt: skip
"""Questions of each skill, at all difficulties; after 40 it hardly knows in which words to answer some of them."""
RATE, BATCH, WINDOW = 3e-3, 16, 16
CAPTION = "describe"


def micro_vision(argument: str = "", **options: Any) -> VisionLM:
    """The micro image student; "micro-vision:3" or base_seed=3 has other prior knowledge. Trains in full unless told
    otherwise."""
    from dataenv.students.vision_lm import VisionLM

    base_seed = read_seed("micro-vision", options.pop("base_seed", argument or 0))
    base = Base(f"micro-vision-{base_seed}", partial(_find, base_seed), images=True)
    defaults: dict[str, Any] = {
        "name": "micro-vision",
        "method": "full",
        "learning_rate": 1e-3,
        "epochs": 3,
        "batch": 32,
        "window": WINDOW,
        "micro_batch": 65_536,
        "answer_batch": 512,
        "template": "{prompt}",
        "max_length": SPEECH["max_position_embeddings"],
        "shots": 0,  # it has never seen two problems in a row
        "device": "cpu",
        "dtype": "float32",
        "threads": 1,  # as for micro: the sums are then the same on every machine
    }
    student = VisionLM(base, **{**defaults, **options})
    student.images = True  # of text alone it has read nothing
    return student


def _find(base_seed: int) -> str:
    from dataenv.tasks import scene_picture, scene_questions, scenes

    sources = [Path(str(module.__file__)).read_text() for module in (scene_picture, scene_questions, scenes)]
    recipe = [SIGHT, SPEECH, MEAN, DEVIATION, WORDS, CAPTIONS, TOP, SCHOOL, RATE, BATCH, WINDOW, base_seed]
    name = f"micro-vision-{content_hash(recipe, sources)[:12]}"  # other scenes, other practice
    return str(build_once(name, partial(_make, base_seed=base_seed)))


def _make(folder: Path, base_seed: int) -> None:
    """Initialise, pre-train and save the base model and its processor."""
    import torch
    from transformers import LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, SiglipVisionConfig

    from dataenv.students.recipe import Recipe
    from dataenv.students.training import train
    from dataenv.students.vision_lm import ImageEncoder
    from dataenv.tasks import tasks

    processor = _processor()
    words = processor.tokenizer
    config = LlavaConfig(
        vision_config=SiglipVisionConfig(**SIGHT),
        text_config=LlamaConfig(
            vocab_size=len(words), bos_token_id=None, eos_token_id=words.eos_token_id, pad_token_id=0, **SPEECH
        ),
        image_token_id=processor.image_token_id,
        image_seq_length=(SIDE // PATCH) ** 2,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        tie_word_embeddings=True,
        attn_implementation="eager",
    )
    with torch.random.fork_rng():
        torch.manual_seed(child_seed(base_seed, "micro-vision", "weights"))
        model = LlavaForConditionalGeneration(config)
    model.generation_config.eos_token_id = words.eos_token_id
    encoder = ImageEncoder(processor, name="micro-vision", template="{prompt}")
    scenes = tasks.make("scenes")

    def drawn(phase: str, amounts: Mapping[str, int], top: float | None) -> list[Example]:
        rows = []
        for skill, n in amounts.items():
            rng = stream(base_seed, "micro-vision", phase, skill)
            for first in range(0, n, 64):
                difficulty = None if top is None else float(rng.uniform(0, top))
                problems = scenes.write(skill, min(n - first, 64), difficulty, rng)
                rows += [Example.from_problem(problem) for problem in problems]
        return rows

    def practise(phase: str, rows: list[Example]) -> None:
        recipe = Recipe(learning_rate=RATE, batch=BATCH, window=WINDOW, micro_batch=65_536)
        order = child_seed(base_seed, "micro-vision", phase, "order")
        with threads(1):
            train(model, [encoder.row(row) for row in rows], recipe, seed=order)

    each = dict.fromkeys(scenes.skills, CAPTIONS // len(scenes.skills))
    practise("captions", [_described(row) for row in drawn("captions", each, TOP)])
    practise("school", drawn("school", SCHOOL, None))
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def _described(row: Example) -> Example:
    """A row that teaches to say what is in the picture, and where, from top to bottom."""
    from dataenv.tasks.scene_picture import read

    middle = SIDE / 2
    said = [
        f"{figure.size} {figure.colour} {figure.shape} {'left' if figure.x < middle else 'right'} "
        f"{'top' if figure.y < middle else 'bottom'}"
        for figure in sorted(read(row.prompt.images[0]) or (), key=lambda figure: (figure.y, figure.x))
    ]
    return Example(prompt=row.prompt.model_copy(update={"text": CAPTION}), completion=" ".join(said))


def _processor() -> Any:
    """Pictures as 64x64 pixels; text as small words, others letter by letter."""
    from transformers import LlavaProcessor
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    pixels = SiglipImageProcessorPil(
        size={"height": SIDE, "width": SIDE}, image_mean=[MEAN] * 3, image_std=[DEVIATION] * 3
    )
    return LlavaProcessor(pixels, _tokenizer(), patch_size=PATCH, vision_feature_select_strategy="full")


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    signs = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    tokens = ["<pad>", END, "<unknown>", IMAGE, *signs, *(f"##{sign}" for sign in signs)]
    tokens += [word for word in WORDS.split() if word not in tokens]
    tokenizer = Tokenizer(models.WordPiece({token: id for id, token in enumerate(tokens)}, unk_token="<unknown>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token=END,
        unk_token="<unknown>",
        additional_special_tokens=[IMAGE],
    )
