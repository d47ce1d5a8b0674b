"""Image students of four architectures: what holds of every student holds of them, and pictures are what they see.

The models are tiny, their weights random, their processors made here: nothing is fetched.
"""

import io
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from dataenv.errors import InvalidData, MissingDependency
from dataenv.protocols import Student
from dataenv.records import Example, Image, Prompt
from dataenv.students import make_student, memory, seen
from dataenv.students.causal_lm import CausalLM
from dataenv.students.generators import Sampling
from dataenv.students.packing import lay_out, length
from dataenv.students.training import _CompletionLosses
from dataenv.students.vision_lm import ImageEncoder, VisionLM
from dataenv.students.weights import Base

CHAT = (
    "{% for m in messages %}<{{ m.role }}>{% for part in m.content %}{% if part.type == 'image' %}<image>"
    "{% else %}{{ part.text }}{% endif %}{% endfor %}{% if m.role == 'assistant' %}<end>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
TEXT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,
}
SIGHT = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 8}


def picture(seed=0, side=24, format="PNG"):
    pixels = np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype=np.uint8)
    file = io.BytesIO()
    Pillow.fromarray(pixels).save(file, format=format)
    return Image(data=file.getvalue())


def tokenizer(*more):
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = "\n" + "".join(chr(code) for code in range(32, 127))
    known = {token: id for id, token in enumerate(["<pad>", "<end>", "<unknown>", "<begin>", *letters])}
    made = Tokenizer(models.WordLevel(known, unk_token="<unknown>"))
    made.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    made.decoder = decoders.Fuse()
    special = {"pad_token": "<pad>", "eos_token": "<end>", "unk_token": "<unknown>", "bos_token": "<begin>"}
    made = PreTrainedTokenizerFast(tokenizer_object=made, **special)
    made.add_special_tokens({"additional_special_tokens": list(more)})
    return made


def _llava():
    from transformers import LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor, SiglipVisionConfig
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    words = tokenizer("<image>")
    size = {"height": 24, "width": 24}
    processor = LlavaProcessor(
        SiglipImageProcessorPil(size=size), words, patch_size=8, vision_feature_select_strategy="full"
    )
    config = LlavaConfig(
        vision_config=SiglipVisionConfig(**SIGHT, image_size=24, vision_use_head=False),
        text_config=LlamaConfig(vocab_size=len(words), **TEXT),
        image_token_id=processor.image_token_id,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )
    return LlavaForConditionalGeneration, config, processor


def _smolvlm():
    """Idefics3 is SmolVLM's architecture; its processor cuts large pictures into parts and marks padding."""
    from transformers import (
        Idefics3Config,
        Idefics3ForConditionalGeneration,
        Idefics3Processor,
        Idefics3VisionConfig,
        LlamaConfig,
    )
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

    words = tokenizer("<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>", "<row_1_col_1>")
    images = Idefics3ImageProcessorPil(
        size={"longest_edge": 64}, max_image_size={"longest_edge": 32}, do_image_splitting=True
    )
    processor = Idefics3Processor(images, words, image_seq_len=4)
    config = Idefics3Config(
        vision_config=Idefics3VisionConfig(**SIGHT, image_size=32),
        text_config=LlamaConfig(vocab_size=len(words), **TEXT),
        image_token_id=processor.image_token_id,
        scale_factor=2,
    )
    return Idefics3ForConditionalGeneration, config, processor


def _paligemma():
    from transformers import (
        GemmaConfig,
        PaliGemmaConfig,
        PaliGemmaForConditionalGeneration,
        PaliGemmaProcessor,
        SiglipVisionConfig,
    )
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    words = tokenizer()
    images = SiglipImageProcessorPil(size={"height": 24, "width": 24})
    images.image_seq_length = 9
    processor = PaliGemmaProcessor(images, words)
    vocabulary = len(words)
    config = PaliGemmaConfig(
        vision_config=SiglipVisionConfig(**SIGHT, image_size=24, vision_use_head=False, projection_dim=32),
        text_config=GemmaConfig(vocab_size=vocabulary, head_dim=8, **TEXT),
        image_token_id=processor.image_token_id,
        projection_dim=32,
    )
    return PaliGemmaForConditionalGeneration, config, processor


class QwenProcessor:
    """What Qwen2VLProcessor does with images; it insists on one for videos, too, which insists on torchvision."""

    image_token = "<|image_pad|>"
    chat_template = CHAT.replace("<image>", "<|vision_start|><|image_pad|><|vision_end|>")

    def __init__(self):
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

        self.tokenizer = tokenizer(self.image_token, "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")
        self.tokenizer.chat_template = self.chat_template
        self.image_processor = Qwen2VLImageProcessorPil(patch_size=4, merge_size=2, min_pixels=16**2, max_pixels=32**2)

    def apply_chat_template(self, messages, **options):
        return self.tokenizer.apply_chat_template(messages, **options)

    def __call__(self, text, images, return_tensors, add_special_tokens):
        looks = self.image_processor(images[0], return_tensors="pt") if images else {}
        parts = text[0].split(self.image_token)
        places = [self.image_token * (int(grid.prod()) // 4) for grid in looks.get("image_grid_thw", ())]
        assert len(parts) == len(places) + 1
        whole = "".join(word for pair in zip(parts, [*places, ""], strict=True) for word in pair)
        made = self.tokenizer([whole], add_special_tokens=False, return_tensors="pt")
        types = (made["input_ids"] == self.tokenizer.convert_tokens_to_ids(self.image_token)).long()
        return {**made, **looks, "mm_token_type_ids": types}


def _qwen():
    """Counts positions in three dimensions."""
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    processor = QwenProcessor()
    id = processor.tokenizer.convert_tokens_to_ids
    config = Qwen2VLConfig(
        vision_config={"embed_dim": 16, "hidden_size": 32, "depth": 1, "num_heads": 2, "patch_size": 4},
        text_config={
            "vocab_size": len(processor.tokenizer),
            **TEXT,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]},
        },
        image_token_id=id("<|image_pad|>"),
        video_token_id=id("<|video_pad|>"),
        vision_start_token_id=id("<|vision_start|>"),
    )
    return Qwen2VLForConditionalGeneration, config, processor


KINDS = {"llava": _llava, "smolvlm": _smolvlm, "paligemma": _paligemma, "qwen": _qwen}


@dataclass(frozen=True)
class Tiny(Base):
    """A base of one of `KINDS`, made in memory."""

    images: bool = True

    def load(self, device=None, dtype=None):
        return _built(self.id)


@lru_cache
def _built(kind, seed=0):
    auto, config, processor = KINDS[kind]()
    config.get_text_config().eos_token_id = 1
    config.get_text_config().pad_token_id = 0
    config._attn_implementation = "eager"
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = auto(config)
    model.generation_config.eos_token_id = 1
    if kind in ("llava", "smolvlm"):
        processor.chat_template = CHAT
    return model.requires_grad_(False).eval(), processor


def save(kind, folder):
    model, processor = _built(kind)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)


SEEING = [
    Prompt(text="what is it?", images=(picture(0),)),
    Prompt(text="and this one, larger?", images=(picture(1, side=40),)),
    Prompt(text="which?", images=(picture(2, format="JPEG"), picture(3, format="WEBP"))),
]
BLIND = Prompt(text="words alone")


def student_of(kind, **options):
    template = "{prompt}" if kind == "paligemma" else None
    options = {"device": "cpu", "dtype": "float32", "rank": 4, "learning_rate": 3e-3, "template": template, **options}
    return VisionLM(Tiny(kind), **options)


def asked(kind):
    return SEEING if kind == "paligemma" else [*SEEING, BLIND]


def rows_of(kind):
    return [
        Example(prompt=p, completion=text)
        for p, text in zip(asked(kind), ["one", "two", "three", "four"], strict=False)
    ]


def says(student, prompts, **options):
    return [reply.text for (reply,) in student.answer(prompts, max_new_tokens=6, **options)]


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def test_company_changes_no_reply(kind):
    student = student_of(kind)
    together = says(student, asked(kind))
    assert together == [says(student, [prompt])[0] for prompt in asked(kind)]
    assert len(set(together)) == len(together)


def test_the_reply_depends_on_the_picture(kind):
    student = student_of(kind)
    same_words = [Prompt(text="what?", images=(picture(seed),)) for seed in range(6)]
    assert len(set(says(student, same_words))) > 1


def test_a_sampled_reply_does_not_depend_on_other_pictures_under_the_same_words():
    encoder = student_of("llava").encoder
    one, other = (encoder.prompt(Prompt(text="what?", images=(picture(seed),))) for seed in range(2))
    assert one == other
    sampling = Sampling(4, frozenset(), temperature=1.0)
    alone = sampling.seeds([other])
    assert sampling.seeds([one, other])[1:] == alone
    assert len({*sampling.seeds([other, other]), *sampling.seeds([one])}) == 3


def test_it_answers_as_transformers_generates(kind):
    student = student_of(kind)
    prompt = SEEING[0]
    ids = student.encoder.prompt(prompt)
    made = student.model.generate(
        input_ids=torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids), dtype=torch.long),
        **ids.look(),
        do_sample=False,
        max_new_tokens=6,
        eos_token_id=student.encoder.end,
        pad_token_id=0,
    )[0, len(ids) :].tolist()
    assert says(student, [prompt]) == [student.encoder.decode(made)]


@pytest.mark.parametrize("method", ["lora", "full"])
def test_it_learns_saves_and_forgets(kind, method, tmp_path):
    student, rows = student_of(kind, method=method), rows_of(kind)
    assert isinstance(student, Student)
    before, version = says(student, asked(kind)), student.version
    first = student.teach(rows, seed=0)
    assert first.rows == len(rows)
    for seed in range(3):
        report = student.teach(rows * 4, seed=seed)
    assert report.loss < first.loss
    taught = says(student, asked(kind))
    student.save(tmp_path)
    student.reset()
    assert (says(student, asked(kind)), student.version) == (before, version)
    student.load(tmp_path)
    assert says(student, asked(kind)) == taught != before


def test_the_same_lesson_gives_the_same_weights(kind):
    versions = set()
    for _ in range(2):
        student = student_of(kind)
        student.teach(rows_of(kind), seed=3)
        versions.add(student.version)
    assert len(versions) == 1


def test_a_row_loses_the_same_alone_and_in_company(kind):
    student = student_of(kind)
    rows = [student.encoder.row(row) for row in rows_of(kind)]
    rows.sort(key=length)
    device = torch.device("cpu")
    with torch.no_grad(), _CompletionLosses(student.model) as losses:
        together = losses(lay_out(rows, device, packed=False))
        alone = torch.cat([losses(lay_out([row], device, packed=False)) for row in rows])
    assert torch.allclose(together, alone, atol=1e-5)


def test_a_lesson_and_an_answer_see_the_same(kind):
    """-ln p of the greedy reply's tokens is least of all: what teaching computes is what answering computes."""
    student = student_of(kind)
    for prompt in SEEING:
        said = student.answer([prompt], max_new_tokens=1)[0][0]
        ids = student.encoder.prompt(prompt)
        vocabulary = student.model.config.get_text_config().vocab_size
        with torch.no_grad(), _CompletionLosses(student.model) as losses:
            inputs = lay_out([(ids, [id]) for id in range(vocabulary)], torch.device("cpu"), packed=False)
            best = int(losses(inputs).argmin())
        assert student.encoder.decode([best]) == said.text


def test_preference_pairs_are_learnt(kind):
    rows = [Example(prompt=p, completion="good", rejected="bad") for p in SEEING]
    once, often = (student_of(kind, epochs=n, batch=3).teach(rows, seed=0).loss for n in (1, 6))
    assert once == pytest.approx(0.6931, abs=1e-3)
    assert often < once - 0.01


# -- memory -----------------------------------------------------------------------------------------------------------


def test_pixels_are_counted_before_memory_is_taken(monkeypatch):
    student = student_of("llava", method="full")
    rows = [student.encoder.row(row) for row in rows_of("llava")[:3]]
    pixel = memory.pixel_bytes(student.model, rows)
    assert pixel > 0
    assert memory.pixel_bytes(student.model, [([3, 4], [5])]) == 0
    cost = memory.footprint(student.model)
    need = memory._need(cost, pixel, rows, False, False)
    assert need > memory._need(cost, 0.0, rows, False, False)
    monkeypatch.setattr(memory, "available", lambda device: need - 1)
    assert memory.plan(student.model, rows, [[0, 1, 2]], 100_000, False, False).micro_batch < 100_000


def test_fewer_replies_are_decoded_at_once_where_pictures_are_large():
    model = student_of("llava").model
    sizes = {"longest": 40, "shared": 0, "new": 10, "most": 512}
    assert memory.replies_at_once(model, **sizes, pixels=10**7) < memory.replies_at_once(model, **sizes)


def test_looks_beyond_what_is_held_are_made_again(monkeypatch):
    monkeypatch.setattr("dataenv.students.vision_lm.HELD", 1)
    student = student_of("smolvlm")
    prompts = [student.encoder.prompt(prompt) for prompt in SEEING]
    first = [prompt.look() for prompt in prompts]
    student.encoder.prompt(BLIND)
    assert len(student.encoder._held) == 1
    again = [prompt.look() for prompt in prompts]
    for one, other in zip(first, again, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


# -- from files, and what is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["llava", "smolvlm", "paligemma"])
def test_it_is_loaded_from_a_folder(kind, tmp_path):
    student = make_student(
        f"vlm:{save(kind, tmp_path / kind)}",
        device="cpu",
        dtype="float32",
        template="{prompt}" if kind == "paligemma" else None,
    )
    assert says(student, SEEING[:1]) == says(student_of(kind), SEEING[:1])


def test_a_processor_reads_for_one_thread_at_a_time():
    encoder = student_of("llava").encoder
    processor, busy, most = encoder.processor, [], []

    def slow(**options):
        busy.append(options)
        most.append(len(busy))
        time.sleep(0.02)
        made = processor(**options)
        busy.pop()
        return made

    encoder.processor = slow
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(encoder.prompt, [Prompt(text="what?", images=(picture(seed),)) for seed in range(4)]))
    assert most == [1] * 4


def test_an_image_that_cannot_be_read_is_named_before_anything_is_taught():
    student = student_of("llava")
    version = student.version
    torn = Image(data=picture().data[:200])
    for bad in (torn, Image(data=b""), Image(data=b"GIF89a nothing")):
        rows = [*rows_of("llava"), Example(prompt=Prompt(text="?", images=(bad,)), completion="x")]
        with pytest.raises(InvalidData, match=bad.sha256[:12]):
            student.teach(rows, seed=0)
        with pytest.raises(InvalidData, match="cannot be read"):
            student.answer([row.prompt for row in rows], max_new_tokens=2)
    assert student.version == version


def test_a_text_student_refuses_images_before_anything_is_taught(make):
    student = make()
    version = student.version
    for shown in (Example(prompt=SEEING[0], completion="x"), Example(prompt="?", completion="y")):
        rows = [Example(prompt="a", completion="b"), Example(prompt=SEEING[1], completion="c"), shown]
        with pytest.raises(InvalidData, match="reads text only; choose an image student"):
            student.teach(rows, seed=0)
    with pytest.raises(InvalidData, match="reads text only"):
        student.answer(
            ["?"] and [Prompt(text="?")], max_new_tokens=2, shots=[Example(prompt=SEEING[0], completion="x")]
        )
    assert student.version == version


def test_what_a_model_cannot_take_is_said():
    with pytest.raises(InvalidData, match="cannot take the prompt 'words alone' with 0 images"):
        student_of("paligemma").answer([BLIND], max_new_tokens=2)
    with pytest.raises(InvalidData, match=r"cannot take the prompt .*what is <image>\?.*do not match"):
        student_of("llava").answer([Prompt(text="what is <image>?", images=(picture(),))], max_new_tokens=2)


def test_settings_that_do_not_fit_are_refused(tiny_folder):
    with pytest.raises(InvalidData, match="cannot pack"):
        VisionLM("x/y", packing=True)
    with pytest.raises(InvalidData, match="'batched'"):
        VisionLM("x/y", generator="vllm:http://127.0.0.1:1")
    with pytest.raises(InvalidData, match="cannot be sharded"):
        make_student("sharded:vlm:x/y")
    with pytest.raises(InvalidData, match=r"vlm:ORG/NAME or vlm:FOLDER"):
        make_student("vlm:")
    with pytest.raises(InvalidData, match="There is no folder"):
        make_student("vlm:./nowhere/at/all")
    with pytest.raises((InvalidData, MissingDependency)):
        _ = VisionLM(tiny_folder).model


def test_an_overlong_prompt_is_counted_not_asked():
    student = student_of("llava", max_length=60)
    long = Prompt(text="x" * 300, images=(picture(),))
    assert student.answer([long], max_new_tokens=2)[0][0].finish == "overlong"
    assert student.teach([Example(prompt=long, completion="x"), rows_of("llava")[0]], seed=0).overlong == 1


def test_images_stand_where_the_template_says():
    student = student_of("llava", template="Q {prompt} {images}\nA ")
    prompt = Prompt(text="{images}?", images=(picture(), picture(1)))
    assert student.encoder.render(prompt) == "Q {images}? <image><image>\nA "
    plain = student_of("llava", template="Q {prompt}").encoder
    assert plain.render(prompt) == "<image><image>Q {images}?"


def test_exemplars_show_their_images():
    student = student_of("llava")
    shot = Example(prompt=SEEING[1], completion="so")
    ids = student.encoder.prompt(SEEING[0], [shot])
    assert ids.look()["pixel_values"].shape[0] == 2
    assert says(student, SEEING[:1], shots=[shot]) != says(student, SEEING[:1])


def test_a_begin_token_is_written_once():
    from types import SimpleNamespace

    class Beginning:
        """A tokenizer that begins with a token when asked for special ones."""

        def __init__(self, inner):
            self.inner = inner

        def __call__(self, text, add_special_tokens=True):
            ids = self.inner(text, add_special_tokens=False)["input_ids"]
            return {"input_ids": [self.inner.bos_token_id] * add_special_tokens + ids}

        def __getattr__(self, name):
            return getattr(self.inner, name)

    processor = Tiny("llava").load()[1]

    class Around(SimpleNamespace):
        def __call__(self, **options):
            return processor(**options)

    around = Around(tokenizer=Beginning(processor.tokenizer), image_processor=1, image_token="<image>")
    encoder = ImageEncoder(around, name="x", template="{prompt}")
    ids = encoder.prompt(SEEING[0])
    assert ids[0] == processor.tokenizer.bos_token_id
    assert ids.count(ids[0]) == 1


def test_it_shares_the_text_students_code():
    """The image student is the text student but for what it reads: one trainer, one set of states and files."""
    own = {name for name in vars(VisionLM) if not name.startswith("__")}
    assert own == {"_encoder_around", "images"}
    assert issubclass(VisionLM, CausalLM)


# -- gathering --------------------------------------------------------------------------------------------------------


def test_gathered_looks_are_filled_up_with_zeros():
    one = seen.Seen([1, 2], lambda: {"pixel_values": torch.ones(1, 2, 3), "token_type_ids": torch.tensor([[0, 1]])}, 6)
    two = seen.Seen([1, 2, 3], lambda: {"pixel_values": torch.ones(2, 1, 4)}, 8)
    looks = seen.gather([one, [5], two], 4, torch.device("cpu"))
    assert looks["pixel_values"].shape == (3, 2, 4)
    assert looks["pixel_values"].sum() == 14
    assert looks["token_type_ids"].tolist() == [[0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    left = seen.gather([one, [5]], 3, torch.device("cpu"), left=True)["token_type_ids"]
    assert left.tolist() == [[0, 0, 1], [0, 0, 0]]
    prefix = seen.Seen([1, 2], lambda: {"token_type_ids": torch.tensor([[0, 0]])}, 0)
    assert seen.gather([prefix], 4, torch.device("cpu"))["token_type_ids"].tolist() == [[0, 0, 1, 1]]
    assert seen.gather([[1], [2]], 1, torch.device("cpu")) == {}
    assert seen.pixels([one, [5], two]) == 14
