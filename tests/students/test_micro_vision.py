"""The micro image student. Small schools stand for the real one but where its knowledge is looked at."""

import hashlib
import io

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from dataenv.errors import InvalidData
from dataenv.records import Example, Image, Prompt
from dataenv.students import make_student, micro_vision
from dataenv.students.vision_lm import VisionLM
from dataenv.tasks import tasks


def picture(seed=0, size=(64, 64), format="PNG"):
    pixels = np.random.default_rng(seed).integers(0, 255, (*size, 3), dtype=np.uint8)
    file = io.BytesIO()
    Pillow.fromarray(pixels).save(file, format=format)
    return Image(data=file.getvalue())


def plain(rgb, side):
    file = io.BytesIO()
    Pillow.new("RGB", (side, side), rgb).save(file, format="PNG")
    return Image(data=file.getvalue())


@pytest.fixture
def short_school(monkeypatch, tmp_path):
    monkeypatch.setenv("DATAENV_CACHE", str(tmp_path))
    monkeypatch.setattr(micro_vision, "CAPTIONS", 16)
    monkeypatch.setattr(micro_vision, "SCHOOL", {"colour": 8})


@pytest.fixture
def student(short_school):
    return make_student("micro-vision:77")  # a process holds each base once, and others want the real one


def test_the_base_follows_from_its_seed_bit_by_bit(short_school, tmp_path):
    def weights(seed, place):
        folder = tmp_path / place
        folder.mkdir()
        micro_vision._make(folder, seed)
        return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()

    torch.manual_seed(1)
    one = weights(0, "one")
    torch.manual_seed(2)
    assert weights(0, "two") == one != weights(1, "three")


def test_it_is_a_llava_of_about_600_000_weights(student):
    assert isinstance(student, VisionLM)
    assert type(student.model).__name__ == "LlavaForConditionalGeneration"
    assert 500_000 < sum(weight.numel() for weight in student.model.parameters()) < 700_000


def test_its_argument_is_the_seed_of_its_base():
    assert make_student("micro-vision:3").base.id == "micro-vision-3"
    assert make_student("micro-vision", base_seed=3).base.id == "micro-vision-3"
    with pytest.raises(InvalidData, match="micro-vision:3"):
        make_student("micro-vision:x")


@pytest.mark.parametrize(
    ("text", "back", "tokens"),
    [
        ("What colour is the large shape?", "what colour is the large shape?", 7),
        ("yes", "yes", 1),
        ("12", "12", 2),
        ("zebra", "zebra", 5),
        ("Ünknown", "<unknown>", 1),
        ("", "", 0),
    ],
)
def test_words_are_tokens_and_others_are_spelt(text, back, tokens):
    words = micro_vision._tokenizer()
    ids = words(text, add_special_tokens=False)["input_ids"]
    assert len(ids) == tokens
    assert words.decode(ids) == back


def test_every_word_of_the_tasks_it_is_for_is_one_token():
    words = micro_vision._tokenizer()
    scenes = tasks.make("scenes")
    for problem in scenes.problems("exemplar", 8, 0):
        text = f"{problem.prompt.text} {problem.answer}"
        ids = words(text, add_special_tokens=False)["input_ids"]
        assert not any(token.startswith("##") for token in words.convert_ids_to_tokens(ids)), text


def test_a_prompt_is_sixteen_places_and_its_words(student):
    prompt = Prompt(text="What is the shape?", images=(picture(),))
    ids = student.encoder.prompt(prompt)
    assert ids[:16] == [student.encoder.processor.image_token_id] * 16
    assert len(ids) == 16 + 5
    assert ids.look()["pixel_values"].shape == (1, 3, 64, 64)


def test_pictures_of_any_size_and_form_are_taken(student):
    images = [picture(1, (20, 90)), picture(2, (300, 200), "JPEG"), picture(3, (1, 1), "WEBP")]
    prompts = [Prompt(text="What?", images=(image,)) for image in images] + [Prompt(text="What?", images=images[:2])]
    replies = student.answer([*prompts, Prompt(text="no picture at all")], max_new_tokens=3)
    assert len(replies) == 5


def test_it_learns_what_a_picture_shows(student):
    shown = {"red": (220, 40, 40), "blue": (40, 90, 230)}
    rows = [
        Example(prompt=Prompt(text="what is it?", images=(plain(rgb, side),)), completion=name)
        for name, rgb in shown.items()
        for side in (40, 64)
    ]
    for seed in range(4):
        student.teach(rows * 16, seed=seed)
    said = [reply.text for (reply,) in student.answer([row.prompt for row in rows], max_new_tokens=3)]
    assert said == [row.completion for row in rows]


def test_its_knowledge_is_uneven():
    """The real base, made once in a minute or two and kept."""
    student, scenes = make_student("micro-vision"), tasks.make("scenes")
    problems = scenes.problems("feedback", 40, 0)
    replies = student.answer([problem.prompt for problem in problems], max_new_tokens=scenes.max_new_tokens)
    right = dict.fromkeys(scenes.skills, 0)
    for problem, (reply,) in zip(problems, replies, strict=True):
        right[problem.skill] += scenes.verify(problem, reply.text).correct
    assert max(right.values()) >= 20 > 12 >= min(right.values()), right
