"""Painted rows: a scripted writer, painters real (random weights) and scripted, a scripted judge."""

import io
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image as Pillow

from dataenv.engines import engines, filters
from dataenv.engines.text_to_image import Painter, TextToImage
from dataenv.errors import GenerationFailed, InvalidData, MissingDependency
from dataenv.images import encoded, opened, readable
from dataenv.protocols import Conversing, Engine, TryingEngine
from dataenv.records import Example, Image, Prompt, Reply, Request
from dataenv.registry import Entry
from dataenv.students import students


def rng(seed=0):
    return np.random.default_rng(seed)


def drawn(seed, side=8):
    pixels = np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype=np.uint8)
    return encoded(Pillow.fromarray(pixels))


class Brush:
    """A painter whose pictures follow from description and seed; it cannot paint what is called void."""

    model = "brush"

    def __init__(self):
        self.asked = []

    def paint(self, descriptions, seeds):
        self.asked += zip(descriptions, seeds, strict=True)
        return [None if "void" in d else drawn([s % 2**32, len(d)]) for d, s in zip(descriptions, seeds, strict=True)]


@pytest.fixture
def task(fakes):
    """The toy task, whose problems of made rows nobody recognises: what the row says counts."""
    toy = fakes.Toy()
    verify = toy.verify
    return type("Seen", (fakes.Toy,), {"recognise": lambda self, prompt: None, "verify": staticmethod(verify)})()


@pytest.fixture
def sees(monkeypatch):
    """Registers a judge "eye" that answers as told, and counts what it is asked."""

    def sees(answer):
        asked = []

        class Eye:
            name, shots = "eye", 0

            def answer(self, prompts, *, samples=1, **options):
                asked.append((prompts, samples, options))
                return [[Reply(answer(p, k), "stop", 1) for k in range(samples)] for p in prompts]

        monkeypatch.setitem(students._entries, "eye", Entry(Eye))
        return asked

    return sees


def row(n, description="a red dot", question=None, answer=None):
    return {"description": f"{description} {n}", "question": question or f"a {n}", "answer": answer or f"a:{n}"}


def written(chat, rows):
    rows = iter(rows)
    return chat(lambda question: {"rows": next(rows)}, concurrency=1)


def made(task, client, **options):
    engine = TextToImage(task=task, **{"judge": "none", "painter": Brush(), **options})
    engine.converse(client)
    return engine


def test_it_keeps_the_protocols(task):
    engine = engines.make("text-to-image:x/y", task=task, judge="none")
    assert isinstance(engine, Engine) and isinstance(engine, TryingEngine) and isinstance(engine, Conversing)
    assert (engine.name, engine.painter.model) == ("text-to-image", "x/y")


def test_rows_have_pictures_and_say_where_they_come_from(task, chat):
    engine = made(task, written(chat, [[row(1), row(2)]]))
    (rows,) = engine.write([Request(skill="a", rows=2, difficulty=0.3)], rng())
    assert [(r.prompt.text, r.completion, r.answer, r.skill, r.difficulty) for r in rows] == [
        ("a 1", "a:1", "a:1", "a", 0.3),
        ("a 2", "a:2", "a:2", "a", 0.3),
    ]
    assert all(readable(r.prompt) and len(r.prompt.images) == 1 for r in rows)
    assert rows[0].prompt.images != rows[1].prompt.images
    assert rows[0].provenance["description"] == "a red dot 1"
    assert rows[0].provenance["painter"] == "brush"
    assert {"model", "question"} <= rows[0].provenance.keys()


def test_the_same_seed_paints_the_same(task, chat):
    rows = [made(task, written(chat, [[row(1)]])).write([Request(skill="a", rows=1)], rng(s)) for s in (0, 0, 1)]
    assert rows[0] == rows[1]
    assert rows[0][0][0].prompt.key != rows[2][0][0].prompt.key


def test_what_cannot_be_painted_is_counted_and_asked_for_again(task, chat):
    client = written(chat, [[row(1, "the void"), row(2), row(3, " ", answer="a:3")], [row(4)], [row(5)], [row(6)]])
    engine = made(task, client)
    (rows,) = engine.write([Request(skill="a", rows=3)], rng())
    assert [r.prompt.text for r in rows] == ["a 2", "a 3", "a 4"]
    assert engine.dropped == {"unpainted": 1}


def test_a_row_without_a_description_is_counted(task, chat):
    engine = made(task, written(chat, [[row(1) | {"description": " "}, row(2)], [row(3)]]))
    (rows,) = engine.write([Request(skill="a", rows=2)], rng())
    assert [r.prompt.text for r in rows] == ["a 2", "a 3"]
    assert engine.dropped == {"empty": 1}


def test_the_question_asks_for_descriptions_and_shows_no_solution_form(task, chat):
    client = written(chat, [[row(1)]])
    made(task, client).write([Request(skill="a", rows=1, instruction="dots on snow")], rng())
    (question,) = client.model.asked
    text = question.messages[0].content
    assert "dots on snow" in text and "painter shows few objects well" in text and '"(a picture)"' in text
    assert set(question.json_schema["properties"]["rows"]["items"]["required"]) == {"description", "question", "answer"}


def test_a_judge_that_sees_something_else_drops_the_row(task, chat, sees):
    asked = sees(lambda prompt, k: "a:1" if prompt.text == "a 1" or k == 0 else "dunno")
    engine = made(task, written(chat, [[row(1), row(2)], [row(3)], [row(4)], [row(5)]]), judge="eye", samples=4)
    (rows,) = engine.write([Request(skill="a", rows=2)], rng())
    assert [r.prompt.text for r in rows] == ["a 1"]
    assert engine.dropped["unconfirmed"] >= 1
    prompts, samples, options = asked[0]
    assert samples == 4 and options["temperature"] > 0
    assert all(prompt.images for prompt in prompts)


@pytest.mark.parametrize(("right", "reason"), [(0, "unconfirmed"), (2, "unconfirmed"), (3, None), (5, None)])
def test_so_many_answers_must_agree(task, sees, right, reason):
    sees(lambda prompt, k: "a:1" if k < right else "a:2")
    check = filters.make("confirmed:eye", task=task)
    pictured = Example(prompt=Prompt(text="a 1", images=(drawn(0),)), completion="a:1", answer="a:1", skill="a")
    check.attach(object())
    assert check([pictured], rng()) == [reason]


def test_rows_without_a_picture_or_an_answer_are_not_the_judges_affair(task, sees):
    asked = sees(lambda prompt, k: "no")
    check = filters.make("confirmed:eye", task=task)
    rows = [
        Example(prompt="a 1", completion="a:1", answer="a:1"),
        Example(prompt=Prompt(text="a 1", images=(drawn(0),)), completion="a:1"),
    ]
    assert check(rows, rng()) == [None, None]
    assert check([], rng()) == []
    assert asked == []


def test_who_judges_must_be_said(task):
    with pytest.raises(InvalidData, match=r"engine\.judge"):
        engines.make("text-to-image", task=task)
    with pytest.raises(InvalidData, match="painter: steps"):
        engines.make("text-to-image", task=task, judge="none", steps=0)
    with pytest.raises(InvalidData, match="agreement"):
        filters.make("confirmed:vlm:x/y", task=task, agreement=2)


# -- the painter ------------------------------------------------------------------------------------------------------


def test_without_diffusers_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(MissingDependency, match=r"dataenv\[diffusion\]"):
        Painter().paint(["x"], [0])


@pytest.mark.parametrize("bad", [{"steps": 0}, {"guidance": -1}, {"side": 2}, {"batch": 0}])
def test_painter_settings_that_make_no_sense_are_refused(bad):
    with pytest.raises(InvalidData, match="painter"):
        Painter(**bad)


def painter(pipeline, **options):
    made = Painter("fake", **options)
    made.__dict__["_pipeline"] = pipeline
    return made


def test_blackened_and_blank_pictures_are_nothing():
    pytest.importorskip("torch")
    some = Pillow.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3))
    blank = Pillow.new("RGB", (8, 8), (7, 8, 9))

    def pipeline(prompt, **options):
        assert options["guidance_scale"] == 0 and len(options["generator"]) == len(prompt)
        pictures = {"some": some, "blank": blank, "unsafe": some}
        return SimpleNamespace(
            images=[pictures[p] for p in prompt], nsfw_content_detected=[p == "unsafe" for p in prompt]
        )

    found = painter(pipeline, batch=2).paint(["some", "unsafe", "blank"], [1, 2, 3])
    assert found[1:] == [None, None]
    assert opened(found[0]).tobytes() == some.tobytes()


def test_a_pipeline_that_breaks_down_is_one_sentence():
    pytest.importorskip("torch")

    def pipeline(**options):
        raise RuntimeError("CUDA out of memory")

    with pytest.raises(GenerationFailed, match=r"fake could not paint \(CUDA out of memory\)"):
        painter(pipeline).paint(["x"], [0])


@pytest.fixture(scope="module")
def tiny_pipeline(tmp_path_factory):
    """Stable Diffusion with random weights, saved as a folder."""
    diffusers = pytest.importorskip("diffusers")
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast

    torch.manual_seed(0)
    words = Tokenizer(models.WordLevel({"<pad>": 0, "<end>": 1, "a": 2, "dot": 3}, unk_token="<pad>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="<end>", unk_token="<pad>", model_max_length=8
    )
    sizes = {"block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4, "sample_size": 8}
    unet = diffusers.UNet2DConditionModel(
        **sizes,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16,
        attention_head_dim=2,
    )
    kinds = {"down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2}
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=4,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=8,
            eos_token_id=1,
            pad_token_id=0,
            bos_token_id=0,
        )
    )
    pipeline = diffusers.StableDiffusionPipeline(
        vae=diffusers.AutoencoderKL(**sizes, **kinds, latent_channels=4),
        text_encoder=text,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=diffusers.EulerDiscreteScheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    folder = tmp_path_factory.mktemp("painter")
    pipeline.save_pretrained(folder)
    return str(folder)


def test_a_real_pipeline_paints_the_same_for_a_seed_in_whatever_company(tiny_pipeline):
    one = Painter(tiny_pipeline, steps=2, side=16, device="cpu")
    (alone,) = one.paint(["a dot"], [5])
    both = Painter(tiny_pipeline, steps=2, side=16, device="cpu").paint(["a", "a dot"], [4, 5])
    assert isinstance(alone, Image) and opened(alone).size == (16, 16)
    assert np.abs(np.asarray(opened(alone), int) - np.asarray(opened(both[1]), int)).max() <= 2
    assert one.paint(["a dot"], [6]) != [alone]
    assert one.paint([], []) == []


def test_weights_that_are_not_there_are_said(tmp_path):
    pytest.importorskip("diffusers")
    with pytest.raises(MissingDependency, match="hf download"):
        Painter(str(tmp_path)).paint(["x"], [0])


def test_images_are_read_and_written_whole():
    picture = Pillow.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3))
    assert opened(encoded(picture)).tobytes() == picture.tobytes()
    gif = io.BytesIO()
    picture.save(gif, format="GIF")
    for bad in (b"", b"\x89PNG", encoded(picture).data[:-30], gif.getvalue()):
        assert not readable(Prompt(text="?", images=(Image(data=bad),)))
        with pytest.raises(InvalidData, match="cannot be read"):
            opened(Image(data=bad))
    assert readable(Prompt(text="?"))
