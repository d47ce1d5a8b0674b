from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataenv.engines.matching import LEVELS, Matcher
from dataenv.engines.pool import Pool
from dataenv.engines.procedural import Procedural
from dataenv.records import Problem, Request
from dataenv.seeding import stream
from dataenv.tasks import tasks


@pytest.fixture(scope="module")
def drills():
    return Matcher(tasks.make("drills"))


def named(*skills):
    """A matcher over a task of which only the skills' names are known."""
    return Matcher(SimpleNamespace(skills=skills, recognise=lambda prompt: None, problems=lambda *_: []))


@pytest.mark.parametrize(
    ("text", "skill"),
    [
        ("addition", "addition"),
        ("ADDITION, please!", "addition"),
        ("More problems on sorting.", "sorting"),
        ("reverse the letters", "reversal"),
        ("Multiplications of two numbers", "multiplication"),
        ("sort in descending order", "descending"),
        ("sums like 12+7=", "addition"),
        ("what comes next in the sequence", "sequence"),
    ],
)
def test_an_instruction_finds_its_skill(drills, text, skill):
    assert drills.skill(text) == skill


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "a",
        "?!",
        "\x00\ud800",
        "A poem about the sea.",
        "more problems please",
        "make the student better at everything",
        "Translate English to French.",
        "proofs in group theory",
        "subtraction rather than addition",  # names two
    ],
)
def test_what_resembles_nothing_or_two_things_is_not_guessed(drills, text):
    assert drills.skill(text) is None


def test_an_exemplar_the_task_recognises_decides_where_the_instruction_does_not(drills):
    assert drills.skill("", "rev abc=") == "reversal"
    assert drills.skill("more like this one", "12+7-3=") == "chain"
    assert drills.skill("addition or chain", "12+7-3=") == "chain"
    assert drills.skill("addition", "12+7-3=") == "addition"  # who names a skill means it
    assert drills.skill("addition or sorting", "12+7-3=") is None  # contradicts itself
    assert drills.skill("a poem", "roses are red") is None
    assert drills.skill("reverse the letters", "roses are red") is None  # the exemplar is what it would be like


def test_every_problem_finds_its_skill_though_the_task_recognises_none():
    """reasoning-gym recognises no prompt, so this rests on resemblance alone, for problems it has not seen."""
    task = tasks.make("arithmetic")
    matcher = Matcher(task)
    problems = task.problems("feedback", 6, 3)
    assert {p.skill for p in problems} == set(task.skills)
    found = [matcher.skill("", problem.prompt.text) for problem in problems]
    assert sum(skill == p.skill for skill, p in zip(found, problems, strict=True)) >= 0.97 * len(problems)
    assert all(skill in (p.skill, None) for skill, p in zip(found, problems, strict=True))


def test_only_the_pool_is_read(fakes):
    task = fakes.Toy()
    Matcher(task).nearest("anything")
    assert {split for split, *_ in task.asked} == {"pool"}
    task = fakes.Toy()
    assert Matcher(task).skill("a") == "a"
    assert not task.asked  # a name needs no comparison


@pytest.mark.parametrize(
    ("text", "skills"),
    [
        ("chain sum", {"chain_sum"}),
        ("Chain-Sum: of three terms", {"chain_sum"}),
        ("sum", {"sum"}),
        ("sum, then chain_sum", {"sum", "chain_sum"}),
        ("chain sums", set()),
        ("summary", set()),
        ("12+7", set()),
        ("C++ at difficulty 0.5", {"C++"}),
        ("in C", {"C"}),
        ("+", {"+"}),
        ("ÉTÉ (hard)", {"été (hard)"}),
        ("a b", {"a b", "A_B"}),  # cannot be told apart in words
    ],
)
def test_names_are_found_as_whole_words(text, skills):
    assert named("sum", "chain_sum", "C", "C++", "+", "été (hard)", "a b", "A_B", "").named(text) == skills


@given(st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=4), st.text(max_size=60), st.text(max_size=60))
def test_any_names_and_texts_are_taken(skills, instruction, exemplar):
    matcher = named(*dict.fromkeys(skills))
    assert matcher.skill(instruction, exemplar) in {*skills, None}
    assert matcher.difficulty(instruction) in {None, *LEVELS.values()} or "difficulty" in instruction.lower()
    assert all(0.0 <= score <= 1.0 for score in matcher.similarities(instruction).values())


def test_a_task_with_one_skill_still_has_to_be_asked_for_it():
    only = Matcher(tasks.make("drills:reversal"))
    assert only.skill("reversal") == only.skill("", "rev abc=") == only.skill("reverse letters") == "reversal"
    assert only.skill("A poem about the sea.") is None
    assert only.skill("", "12+7=") is None  # a problem of a skill this task does not have


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("hard additions", 0.75),
        ("Easy!", 0.25),
        ("the hardest", 1.0),
        ("addition at difficulty 0.3", 0.3),
        ("difficulty: 1", 1.0),
        ("difficulty 1e-05.", 1e-05),
        ("hard, difficulty 0.75", 0.75),
        ("addition", None),
        ("easy and hard", None),
        ("difficulty 0.3 or difficulty 0.4", None),
        ("difficulty 7", None),
        ("difficulty", None),
        ("difficulty -1", None),
        ("hardly", None),
    ],
)
def test_an_instruction_may_state_a_difficulty(drills, text, level):
    assert drills.difficulty(text) == level


def test_words_in_the_name_of_a_skill_state_no_difficulty():
    matcher = named("hard sums", "sums")
    assert matcher.difficulty("hard sums") is None
    assert matcher.difficulty("hard sums at difficulty 0.1") == 0.1
    assert matcher.difficulty("hard, sums") is None  # read as the name


@given(st.floats(0, 1))
def test_any_difficulty_can_be_said(level):
    assert named("x").difficulty(f"x at difficulty {level!r}") == level


def test_matches_do_not_depend_on_what_was_asked_before(drills):
    fresh = Matcher(tasks.make("drills"))
    drills.skill("something else entirely")
    assert fresh.similarities("add and reverse") == drills.similarities("add and reverse")


@pytest.mark.parametrize("engine", [Procedural, Pool])
def test_engines_that_do_not_read_write_nothing_for_what_is_unmatched(fakes, engine):
    requests = [Request(skill="a", rows=2), Request(skill="unmatched", rows=5, instruction="a poem")]
    requests.append(Request(skill="unmatched", rows=5, exemplar=Problem(prompt="b 1", answer="")))
    written = engine(fakes.Toy()).write(requests, stream(0, "test"))
    assert [len(rows) for rows in written] == [2, 0, 0]
