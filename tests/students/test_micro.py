"""The micro student: the same base from the same seed, in any process, and prior knowledge worth finding out about."""

import os
import subprocess
import sys

import pytest
import torch

from dataenv.errors import InvalidData
from dataenv.examine import examine
from dataenv.records import Example
from dataenv.seeding import stream
from dataenv.students import make_student, micro, weights
from dataenv.tasks import tasks

SCHOOL = "micro.ROWS, micro.LATELY = 60, {'addition': 40}"
"""The same pre-training with hardly any rows: a tenth of a second instead of a minute."""


@pytest.fixture
def school(monkeypatch, tmp_path):
    """Builds tiny bases in an empty cache of their own."""
    monkeypatch.setenv("DATAENV_CACHE", str(tmp_path / "cache"))
    for name in ("ROWS", "LATELY"):
        monkeypatch.setattr(micro, name, getattr(micro, name))
    exec(SCHOOL, {"micro": micro})
    weights._load.cache_clear()
    yield tmp_path / "cache"
    weights._load.cache_clear()


@pytest.fixture(scope="module")
def student():
    student = make_student("micro")
    yield student
    student.close()


@pytest.fixture
def untaught(student):
    student.reset()
    return student


@pytest.fixture(scope="module")
def drills():
    return tasks.make("drills")


def rows(drills, skill, n, seed=0):
    return [Example.from_problem(problem) for problem in drills.write(skill, n, None, stream(seed, skill))]


# -- the base ---------------------------------------------------------------------------------------------------------


def test_another_process_makes_the_same_base(school):
    """Of another hash seed, with another number of threads, and after other draws."""
    code = (
        "import random, numpy, torch\nfrom dataenv.students import micro\n"
        f"random.seed(3); numpy.random.seed(3); torch.manual_seed(3); torch.set_num_threads(2); {SCHOOL}\n"
        "print(micro.micro().version)"
    )
    environment = {**os.environ, "DATAENV_CACHE": str(school / "other"), "PYTHONHASHSEED": "77", "OMP_NUM_THREADS": "2"}
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    version = micro.micro().version
    assert other.communicate()[0].strip() == version
    (here,), (there,) = school.glob("micro-*"), (school / "other").glob("micro-*")
    assert here.name == there.name
    assert (here / "model.safetensors").read_bytes() == (there / "model.safetensors").read_bytes()


def test_a_base_is_made_once_and_kept(school, monkeypatch):
    assert not micro.made()
    version = micro.micro().version
    assert micro.made()
    assert not micro.made(1)
    monkeypatch.setattr(micro, "_make", lambda *_, **__: pytest.fail("made again"))
    weights._load.cache_clear()
    assert micro.micro().version == version


def test_another_seed_is_another_student_and_the_same_one_is_the_same_however_it_is_said(school):
    versions = [make_student(spec).version for spec in ("micro", "micro:", "micro:0", "micro:1", "micro:2")]
    assert versions[0] == versions[1] == versions[2]
    assert len(set(versions)) == 3
    assert make_student("micro", base_seed=1).version == versions[3]
    assert make_student("micro", base_seed="2").version == versions[4]


@pytest.mark.parametrize("name", ["SHAPE", "SCHOOL", "ROWS", "TOP", "SCHOOL_RATE", "LATELY", "LATE_RATE", "BATCH"])
def test_another_recipe_is_another_base(monkeypatch, name):
    """So that no base of an older recipe is taken from the cache."""
    before = micro._folder(0)
    value = getattr(micro, name)
    monkeypatch.setattr(micro, name, {**value, "x": 1} if isinstance(value, dict) else value + 1)
    assert micro._folder(0) != before


def test_making_a_base_leaves_the_global_generators_and_threads_alone(school):
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    micro.micro()._load()
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads


def test_it_is_as_small_as_it_says_and_has_every_printable_character(untaught):
    assert 0.15e6 < sum(weight.numel() for weight in untaught._load().parameters()) < 0.17e6
    tokenizer = micro._tokenizer()
    ids = tokenizer(micro.CHARACTERS)["input_ids"]
    assert len(set(ids)) == len(ids) == len(micro.CHARACTERS)
    assert tokenizer.decode(ids) == micro.CHARACTERS
    assert tokenizer("é")["input_ids"] == tokenizer("漢")["input_ids"] == [tokenizer.unk_token_id]


# -- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", ["abc", "-1", "1.5", "1 2", "²", "0x1", "None"])
def test_a_seed_that_is_no_whole_number_is_refused_in_one_sentence(seed):
    with pytest.raises(InvalidData) as refused:
        make_student(f"micro:{seed}")
    assert str(refused.value) == (
        f"The micro student's base seed must be a whole number, as in 'micro:3'; it is '{seed}'."
    )


@pytest.mark.parametrize("seed", [-1, 1.5, None, True, [1], "²"])
def test_an_option_that_is_no_whole_number_is_refused_too(seed):
    with pytest.raises(InvalidData, match="base seed must be a whole number"):
        make_student("micro", base_seed=seed)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"colour": "red"}, "'colour'"),
        ({"epochs": 0}, "epochs"),
        ({"learning_rate": -1.0}, "learning_rate"),
        ({"method": "magic"}, "'lora' or 'full'; it is 'magic'"),
        ({"max_length": 0}, "max_length"),
    ],
)
def test_an_unknown_or_senseless_option_is_refused_by_name(options, words):
    with pytest.raises(InvalidData, match=words) as refused:
        make_student("micro", **options)
    assert "\n" not in str(refused.value)


# -- teaching ---------------------------------------------------------------------------------------------------------


def test_the_same_lesson_makes_the_same_student_and_another_order_another(untaught, drills):
    base, lesson, versions = untaught.version, rows(drills, "copying", 40), []
    for seed in (1, 1, 2):
        untaught.reset()
        assert untaught.version == base
        untaught.teach(lesson, seed=seed)
        versions.append(untaught.version)
    assert versions[0] == versions[1] != versions[2]
    assert base not in versions


def test_going_back_and_teaching_again_gives_the_same_student(untaught, drills):
    untaught.teach(rows(drills, "copying", 32), seed=1)
    state, version = untaught.clone_state(), untaught.version
    untaught.teach(rows(drills, "reversal", 32), seed=2)
    after = untaught.version
    untaught.restore_state(state)
    assert untaught.version == version
    untaught.teach(rows(drills, "reversal", 32), seed=2)
    assert untaught.version == after != version


def test_a_student_is_the_same_when_saved_and_loaded_and_belongs_to_its_base(untaught, drills, tmp_path, school):
    """Of the default base; another base's student does not take it."""
    untaught.teach(rows(drills, "sorting", 32), seed=1)
    untaught.save(tmp_path / "kept")
    version = untaught.version
    untaught.reset()
    untaught.load(tmp_path / "kept")
    assert untaught.version == version
    with pytest.raises(InvalidData, match="belong to 'micro-0', not to 'micro-1'"):
        make_student("micro:1").load(tmp_path / "kept")


def test_its_knowledge_is_uneven_and_what_faded_is_relearnt_within_few_rows(untaught, drills):
    problems = drills.problems("feedback", 24, 0)
    before = {score.skill: score.accuracy for score in examine(drills, untaught, problems).by_skill(drills.skills)}
    assert max(before.values()) - min(before.values()) > 0.4, before
    assert len([skill for skill, accuracy in before.items() if accuracy < 0.3]) >= 3, before
    untaught.teach(rows(drills, "copying", 256), seed=0)
    after = {score.skill: score.accuracy for score in examine(drills, untaught, problems).by_skill(drills.skills)}
    assert after["copying"] - before["copying"] > 0.2, (before, after)
