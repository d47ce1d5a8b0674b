import json

import numpy as np
import pytest

from dataenv.errors import InvalidData, UnknownId
from dataenv.protocols import Organiser, SubdividedTask
from dataenv.records import Request
from dataenv.skills import organisers
from dataenv.tasks.drills import SKILLS, Drills


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture
def written(tmp_path):
    def write(content):
        path = tmp_path / "subskills.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return f"file:{path}"

    return write


def test_every_organiser_keeps_the_protocol(fakes, written):
    for spec in ("procedural", written({"a": ["x"], "b": ["y"], "c": ["z"]})):
        organiser = organisers.make(spec, task=fakes.Toy())
        assert isinstance(organiser, Organiser)
        names = organiser.propose("a", (), 99, rng())
        assert organiser.propose("a", names, 99, rng()) == []
        assert organiser.propose("a", (), 0, rng()) == []
        request = organiser.request("a", names[0], 7)
        assert (request.skill, request.subskill, request.rows) == ("a", names[0], 7)


def test_procedural_proposes_what_the_task_names_in_random_order():
    task = Drills("addition,copying")
    assert isinstance(task, SubdividedTask)
    organiser = organisers.make("procedural", task=task)
    first = organiser.propose("addition", (), 99, rng())
    assert sorted(first) == sorted(task.subskills("addition"))
    assert organiser.propose("addition", (), 99, rng()) == first
    assert len({tuple(organiser.propose("addition", (), 99, rng(seed))) for seed in range(5)}) > 1
    known, new = first[:2], organiser.propose("addition", first[:2], 3, rng())
    assert len(new) == 3
    assert not set(known) & set(new)
    assert organiser.request("addition", first[0], 3) == Request(skill="addition", subskill=first[0], rows=3)


def test_procedural_falls_back_on_levels_of_difficulty(fakes):
    organiser = organisers.make("procedural", task=fakes.Toy())
    names = sorted(organiser.propose("a", (), 99, rng()))
    assert [organiser.request("a", name, 1).difficulty for name in names] == [0.1, 0.3, 0.5, 0.7, 0.9]


def test_a_file_gives_names_difficulties_and_instructions(fakes, written):
    content = {"a": {"x": {"difficulty": 0.25, "instruction": "big ones"}, " y ": {}}, "b": ["u", "v"], "c": ["w"]}
    organiser = organisers.make(written(content), task=fakes.Toy())
    assert sorted(organiser.propose("a", (), 9, rng())) == ["x", "y"]
    assert organiser.request("a", "x", 4) == Request(
        skill="a", subskill="x", rows=4, difficulty=0.25, instruction="big ones"
    )
    assert organiser.request("b", "v", 1) == Request(skill="b", subskill="v", rows=1)


GOOD = {"b": ["u"], "c": ["w"]}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is not JSON"),
        ("[]", "it holds a list"),
        ("null", "it holds null"),
        ({**GOOD}, "1 skills have no subskills, such as 'a'"),
        ({"a": [], "b": {}, "c": None}, "3 skills have no subskills, such as 'a'"),
        ({"a": ["x"], **GOOD, "aa": ["x"]}, "no skill 'aa'; did you mean 'a'"),
        ({"a": "x", **GOOD}, "'a' must hold subskills, not text"),
        ({"a": 3, **GOOD}, "'a' must hold subskills, not a number"),
        ({"a": [3], **GOOD}, "'a' names a subskill 3"),
        ({"a": [["x"]], **GOOD}, r"'a' names a subskill \['x'\]"),
        ({"a": [" "], **GOOD}, "'a' names a subskill ' '"),
        ({"a": ["x", "X "], **GOOD}, "'a' names the subskill 'X ' twice"),
        ({"a": {"x": 1}, **GOOD}, "'a' 'x' takes 'difficulty' and 'instruction', not a number"),
        ({"a": {"x": {"level": 1}}, **GOOD}, "'a' 'x' takes 'difficulty' and 'instruction', not level"),
        ({"a": {"x": {"difficulty": 2}}, **GOOD}, "'a' 'x': difficulty is 2"),
        ({"a": {"x": {"difficulty": True}}, **GOOD}, "'a' 'x': difficulty is True"),
        ({"a": {"x": {"difficulty": "hard"}}, **GOOD}, "'a' 'x': difficulty is 'hard'"),
        ({"a": {"x": {"instruction": 1}}, **GOOD}, "'a' 'x': instruction is a number"),
    ],
)
def test_a_bad_file_is_refused_with_the_place(fakes, written, content, words):
    with pytest.raises(InvalidData, match=words) as caught:
        organisers.make(written(content), task=fakes.Toy())
    assert "subskills.json" in str(caught.value)


def test_a_missing_file_is_named(fakes, tmp_path):
    with pytest.raises(InvalidData, match=r"none\.json cannot be read"):
        organisers.make(f"file:{tmp_path}/none.json", task=fakes.Toy())
    with pytest.raises(InvalidData, match="write file:PATH"):
        organisers.make("file", task=fakes.Toy())
    with pytest.raises(UnknownId, match="procedural"):
        organisers.make("procedual", task=fakes.Toy())


@pytest.mark.parametrize("skill", SKILLS)
def test_the_subskills_of_a_drill_part_its_prompts_and_can_be_written(skill):
    task = Drills()
    names = task.subskills(skill)
    assert len(names) == len(set(names)) >= 2
    for problem in task.write(skill, 50, None, rng()):
        assert problem.subskill is None
        assert sum(SKILLS[skill].within(name, problem.prompt.text) for name in names) == 1
    for name in names:
        problems = task.write(skill, 20, None, rng(), subskill=name)
        assert len({p.prompt.key for p in problems}) == 20
        assert all(p.subskill == name and SKILLS[skill].within(name, p.prompt.text) for p in problems)
        assert all(SKILLS[skill].solve(p.prompt.text) == p.answer for p in problems)


def test_a_drill_without_the_subskill_or_the_difficulty_for_it():
    with pytest.raises(UnknownId, match="'copying' has no subskill '9 letters'; it has: up to 3 letters"):
        Drills().write("copying", 1, None, rng(), subskill="9 letters")
    assert Drills().write("copying", 5, 0.0, rng(), subskill="7 to 8 letters") == []


def test_the_subskills_of_reasoning_gym_raise_one_attribute_each():
    pytest.importorskip("reasoning_gym")
    from dataenv.tasks.reasoning_gym import ReasoningGym, arithmetic

    task = arithmetic("gcd,spell_backward")
    assert isinstance(task, SubdividedTask)
    assert task.subskills("spell_backward") == ("base", "max_word_len 4", "max_word_len 5")

    def longest(subskill):
        problems = task.write("spell_backward", 30, None, rng(), subskill=subskill)
        assert all(p.subskill == subskill for p in problems)
        return max(len(p.answer) for p in problems)

    assert [longest(name) for name in task.subskills("spell_backward")] == [3, 4, 5]
    curriculum = ReasoningGym("gcd,knight_swap,acre")
    assert "num_terms 3" in curriculum.subskills("gcd")
    assert curriculum.subskills("knight_swap") == ("base",)  # the library refuses all its levels
    assert curriculum.subskills("acre") == ("base",)  # no curriculum
    few = curriculum.write("gcd", 5, None, rng(), subskill="base")
    assert all(p.prompt.text.count(",") == 1 for p in few)
    with pytest.raises(UnknownId, match="'gcd' has no subskill 'x'; it has: base; "):
        curriculum.write("gcd", 1, None, rng(), subskill="x")
