import hashlib
import io
import json
import re
import zlib
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataenv.engines.gate import NGRAM, Gate, ngrams
from dataenv.errors import InvalidData, UnknownId
from dataenv.protocols import AuthoredTask, SubdividedTask
from dataenv.records import Example, Image, Prompt
from dataenv.tasks import scene_picture
from dataenv.tasks.scene_picture import COLOURS, LARGE, SHAPES, SIDE, SMALL, Figure, draw, read
from dataenv.tasks.scene_questions import FORMS, solve
from dataenv.tasks.scenes import Scenes

TASK = Scenes()

figure = st.builds(
    Figure,
    st.sampled_from(SHAPES),
    st.sampled_from(list(COLOURS)),
    st.sampled_from([*SMALL, *LARGE]),
    st.integers(0, SIDE - 1),
    st.integers(0, SIDE - 1),
)


@st.composite
def scene(draw_from):
    found = []
    for one in draw_from(st.lists(figure, max_size=12)):
        if one.inside and all(one.clear_of(other) for other in found):
            found.append(one)
    return found


# -- pictures ---------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(scene())
def test_a_picture_says_what_was_drawn(figures):
    found = read(draw(figures))
    assert found is not None and sorted(found) == sorted(figures)
    assert draw(reversed(figures)) == draw(figures)


@settings(max_examples=40, deadline=None)
@given(scene())
def test_pictures_are_png_as_others_read_them(figures):
    pil = pytest.importorskip("PIL.Image")
    picture = pil.open(io.BytesIO(draw(figures).data))
    pixels = np.asarray(picture.convert("RGB"))
    assert pixels.shape == (SIDE, SIDE, 3)
    for one in figures:
        assert tuple(pixels[one.y, one.x]) == COLOURS[one.colour]


def test_bytes_are_the_same_on_every_machine():
    figures = [
        Figure("circle", "red", 17, 20, 20),
        Figure("cross", "blue", 5, 50, 9),
        Figure("triangle", "black", 7, 40, 55),
    ]
    assert hashlib.sha256(draw(figures).data).hexdigest()[:16] == "03db9d4bf062edd1"
    problems = TASK.problems("exam", 3, 5)
    assert hashlib.sha256("".join(problem.id for problem in problems).encode()).hexdigest()[:16] == "65c1bfc7f0050e36"


def test_runs_of_any_length_are_packed_as_zlib_unpacks_them():
    for length in (*range(1, 300), 515, 516, 517, 518, 519, 520, 2112):
        for byte in (0, 2, 143, 144, 255):
            bits = "110" + scene_picture._run(byte, length) + "0000000"
            packed = int(bits[::-1], 2).to_bytes((len(bits) + 7) // 8, "little")
            assert zlib.decompress(packed, -15) == bytes([byte]) * length


@settings(max_examples=60, deadline=None)
@given(scene(), st.integers(0, 600), st.binary(min_size=1, max_size=4))
def test_a_picture_of_another_hand_is_not_read(figures, at, change):
    data = draw(figures).data
    other = data[:at] + change + data[at + len(change) :]
    found = read(Image(data=other))
    assert found is None or draw(found).data == other


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n\x1a\n", scene_picture._HEAD, scene_picture._HEAD + b"\0" * 8000])
def test_what_is_no_picture_is_not_read(data):
    assert read(Image(data=data)) is None


def test_pictures_that_unpack_without_end_are_not_read():
    bomb = scene_picture._HEAD + scene_picture._chunk(b"IDAT", zlib.compress(b"\0" * 5_000_000))
    assert len(bomb) < 8000 and read(Image(data=bomb)) is None


# -- questions --------------------------------------------------------------------------------------------------------

FOUR = [
    Figure("circle", "red", 15, 12, 30),
    Figure("circle", "blue", 7, 50, 10),
    Figure("square", "red", 7, 52, 50),
    Figure("cross", "green", 13, 30, 52),
]


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What colour is the square?", "red"),
        ("What colour is the circle?", None),
        ("What colour is the large circle?", "red"),
        ("What is the green shape?", "cross"),
        ("What is the small red shape?", "square"),
        ("what is the RED SHAPE?", None),
        ("Is the square small or large?", "small"),
        ("Is the blue circle on the left or right?", "right"),
        ("Is the cross on the left or right?", None),
        ("Is the cross at the top or bottom?", "bottom"),
        ("How many circles are there?", "2"),
        ("How many large red shapes are there?", "1"),
        ("How many yellow crosses are there?", "0"),
        ("Is the cross larger than the square?", "yes"),
        ("Is the square larger than the cross?", "no"),
        ("Is the square larger than the blue circle?", None),
        ("Are there more circles or squares?", "circles"),
        ("Are there more crosses or squares?", None),
        ("Are there more red or green shapes?", "red"),
        ("Are there more circles than crosses?", "yes"),
        ("Are there more blue shapes than green shapes?", "no"),
        ("Is the cross left of the square?", "yes"),
        ("Is the cross above the square?", None),
        ("Is the blue circle above the cross?", "yes"),
        ("Is the blue circle below the cross?", "no"),
        ("What colour is the leftmost shape?", "red"),
        ("What colour is the topmost shape?", "blue"),
        ("What colour is the lowest shape?", None),
        ("What colour is the shape nearest to the cross?", "red"),
        ("Is there a red circle and a green cross?", "yes"),
        ("Is there a red circle and a green square?", "no"),
        ("Is there a red circle or a green square?", "yes"),
        ("Is there a purple circle or a green square?", "no"),
        ("Are all circles red?", "no"),
        ("Are all squares red?", "yes"),
        ("Are all triangles red?", None),
        ("Is there a circle that is not red?", "yes"),
        ("Is there a square that is not red?", "no"),
        ("What colour is the dog?", None),
        ("How many circles are there", None),
        ("How many circles are there? 2", None),
        ("", None),
    ],
)
def test_answers_are_the_truth(question, answer):
    found = solve(question, FOUR)
    assert (found and found[1]) == answer
    known = TASK.recognise(Prompt(text=question, images=(draw(FOUR),)))
    assert (known and known.answer) == answer


@pytest.mark.parametrize("skill", TASK.skills)
@pytest.mark.parametrize("difficulty", [0.0, None, 1.0])
def test_questions_are_recognised_short_and_of_one_form(skill, difficulty):
    for problem in TASK.write(skill, 40, difficulty, np.random.default_rng(3)):
        assert TASK.recognise(problem.prompt).id == problem.id
        assert 0 < len(problem.answer) < TASK.max_new_tokens and " " not in problem.answer
        assert len(re.findall(r"\w+|[^\w\s]", problem.prompt.text)) < NGRAM and not ngrams(problem.prompt.text)
        fitting = [name for name in FORMS if solve(problem.prompt.text, read(problem.prompt.images[0]))[0] == name]
        assert len(fitting) == 1 and FORMS[fitting[0]].skill == skill


HIGHEST = {"colour": 0.3, "shape": 0.4, "size": 0.6, "position": 0.42, "counting": 0.35, "comparison": 0.4}


@pytest.mark.parametrize("skill", TASK.skills)
def test_no_answer_is_much_more_frequent_than_others(skill):
    rows = TASK.write(skill, 300, None, np.random.default_rng(4))
    answers = Counter(row.answer for row in rows)
    assert max(answers.values()) <= HIGHEST.get(skill, 0.6) * len(rows), answers


@pytest.mark.parametrize("name", FORMS)
def test_balanced_forms_are_balanced_whatever_the_difficulty(name):
    form = FORMS[name]
    for difficulty in (0.0, 1.0):
        subskill = name if TASK.subskills(form.skill) else None
        rows = TASK.write(form.skill, 120, difficulty, np.random.default_rng(5), subskill=subskill)
        answers = Counter(row.answer for row in rows)
        assert len(rows) == 120 and {row.subskill for row in rows} == {subskill}
        if form.balanced:
            assert set(answers) == set(form.balanced) and max(answers.values()) < 80


def test_harder_scenes_are_fuller_and_smaller():
    def measured(difficulty):
        scenes = [read(row.prompt.images[0]) for row in TASK.write("colour", 80, difficulty, np.random.default_rng(6))]
        return np.mean([len(s) for s in scenes]), np.mean([one.diameter for s in scenes for one in s])

    (few, wide), (many, narrow) = measured(0.0), measured(1.0)
    assert few < 2 < 5 < many and wide > narrow + 2


# -- the task ---------------------------------------------------------------------------------------------------------


def test_a_selection_keeps_its_problems():
    few = Scenes("shape, counting")
    assert few.skills == ("shape", "counting") and few.prerequisites == {"counting": ("shape",)}
    whole = [p.id for p in TASK.problems("feedback", 5, 1) if p.skill == "shape"]
    assert whole == [p.id for p in few.problems("feedback", 5, 1) if p.skill == "shape"]
    assert few.recognise(Prompt(text="What colour is the square?", images=(draw(FOUR),))) is None
    with pytest.raises(UnknownId, match="'colour'"):
        Scenes("color")


def test_subskills_are_the_forms():
    assert isinstance(TASK, SubdividedTask) and isinstance(TASK, AuthoredTask)
    assert TASK.subskills("position") == ("left or right", "top or bottom") and TASK.subskills("colour") == ()
    with pytest.raises(UnknownId, match="no subskill 'nearst'; it has: "):
        TASK.write("relations", 1, None, np.random.default_rng(0), subskill="nearst")


def test_only_the_one_picture_counts():
    text, image = "What colour is the square?", draw(FOUR)
    assert TASK.recognise(Prompt(text=text, images=(image,))) is not None
    for images in ((), (image, image), (Image(data=b"x"),)):
        assert TASK.recognise(Prompt(text=text, images=images)) is None
    assert TASK.recognise(Prompt(text=text, images=(image,), tools=({"name": "x"},))) is None


def test_the_gate_knows_a_false_answer_from_the_pixels():
    gate = Gate(TASK, [problem.prompt for problem in TASK.problems("feedback", 30, 0)])
    rows = [
        Example.from_problem(p) for skill in TASK.skills for p in TASK.write(skill, 20, None, np.random.default_rng(1))
    ]
    assert {gate.fault(row, frozenset()) for row in rows} == {None}
    false = rows[0].model_copy(update={"completion": "mauve", "answer": "mauve"})
    assert gate.fault(false, frozenset()) == "wrong"
    exam = TASK.problems("exam", 1, 0)[0]
    assert gate.fault(Example.from_problem(exam), frozenset()) == "contaminated"


# -- written by a model -----------------------------------------------------------------------------------------------


def test_what_is_told_is_read_again_and_fits_the_form():
    jsonschema = pytest.importorskip("jsonschema")
    for problem in TASK.problems("exemplar", 4, 0):
        written = TASK.told(problem)
        jsonschema.validate(json.loads(json.dumps(written)), TASK.row_form)
        again = TASK.read(json.loads(json.dumps(written)))
        assert (again.id, again.answer) == (problem.id, problem.answer)
    jsonschema.Draft202012Validator.check_schema(TASK.row_form)


WRITTEN = {
    "figures": [{"shape": "circle", "colour": "red", "diameter": 15, "x": 20, "y": 20}],
    "question": "What colour is the circle?",
    "answer": "Red.",
}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"answer": "blue"}, "not true"),
        ({"question": "Why?"}, "no known form"),
        ({"question": "What colour is the square?"}, "no one answer"),
        ({"figures": []}, "none"),
        ({"figures": WRITTEN["figures"] * 2}, "touch"),
        ({"figures": [WRITTEN["figures"][0] | {"x": 3}]}, "wholly in"),
        ({"figures": [WRITTEN["figures"][0] | {"x": -1}]}, "wholly in"),
        ({"figures": [WRITTEN["figures"][0] | {"x": 20.5}]}, "not a scene"),
        ({"figures": [WRITTEN["figures"][0] | {"x": True}]}, "not a scene"),
        ({"figures": [WRITTEN["figures"][0] | {"diameter": 11}]}, "not a scene"),
        ({"figures": [WRITTEN["figures"][0] | {"diameter": 15.0}]}, "not a scene"),
        ({"figures": [WRITTEN["figures"][0] | {"shape": ["circle"]}]}, "not a scene"),
        ({"figures": [WRITTEN["figures"][0] | {"extra": 1}]}, "not a scene"),
        ({"figures": "circle"}, "not a scene"),
        ({"figures": None}, "not a scene"),
        ({"question": "What colour is the circle?" * 10**5}, "no known form"),
    ],
)
def test_rows_that_are_not_true_are_refused_with_a_reason_to_count(change, reason):
    assert TASK.read(WRITTEN).answer == "red"
    with pytest.raises(InvalidData, match=reason):
        TASK.read(WRITTEN | change)
    for missing in WRITTEN:
        with pytest.raises(InvalidData, match="not a scene"):
            TASK.read({key: value for key, value in WRITTEN.items() if key != missing})


json_value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["shape", "x", "y", "answer"]), inner),
    max_leaves=8,
)


@settings(max_examples=80, deadline=None)
@given(st.fixed_dictionaries({}, optional={"figures": json_value, "question": json_value, "answer": json_value}))
def test_any_json_is_a_problem_or_a_reason(written):
    with pytest.raises(InvalidData):
        TASK.read(written)
