"""Filters that ask the student: what it knows already, and what helps it in context."""

import pytest

from dataenv.engines import filters
from dataenv.errors import InvalidData, UnknownId
from dataenv.protocols import AsksStudent
from dataenv.records import Example, Reply
from dataenv.seeding import stream
from dataenv.tasks.splits import split_of


@pytest.fixture
def pupil(fakes):
    """A student that is right in a share of its samples of each skill, and after exemplars that say "good"."""

    class Pupil(fakes.Scripted):
        name = "pupil"

        def __init__(self, finish="stop", **share):
            super().__init__()
            self.share, self.finish = share, finish
            self.asked = []

        def answer(self, prompts, *, max_new_tokens, shots=(), samples=1, temperature=0.0, seed=0):
            self.asked.append(([p.text for p in prompts], [s.completion for s in shots], samples, temperature))
            rng, replies = stream(seed), []
            for prompt in prompts:
                skill, _, number = prompt.text.partition(" ")
                word = shots[0].completion if shots else ""
                share = {"good": 1.0, "bad": 0.0}.get(word, self.share.get(skill, 0.0))
                replies.append(
                    [Reply(f"{skill}:{number}" if r < share else "?", self.finish) for r in rng.random(samples)]
                )
            return replies

    return Pupil


def make(spec, task, student, **options):
    made = filters.make(spec, task=task, **options)
    made.attach(student)
    return made


def problems(task, n, *skills):
    written = [p for skill in skills for p in task.write(skill, n, None, stream(1, skill))]
    return [Example.from_problem(problem) for problem in written]


def row(completion, skill="a", prompt="hint"):
    return Example(prompt=f"{prompt} {completion}", completion=completion, skill=skill)


def test_both_ask_the_student(fakes):
    for spec in ("known", "helps"):
        assert isinstance(filters.make(spec, task=fakes.Toy()), AsksStudent)


# -- known ------------------------------------------------------------------------------------------------------------


def test_what_the_student_solves_is_dropped_in_one_call(fakes, pupil):
    task, student = fakes.Toy(), pupil(a=1.0, b=0.0)
    rows = problems(task, 3, "a", "b")
    assert make("known", task, student)(rows, stream(0)) == ["known"] * 3 + [None] * 3
    assert student.asked == [([row.prompt.text for row in rows], [], 4, 0.7)]


@pytest.mark.parametrize(("spec", "share"), [("known:0.9", 0.316), ("known:0.75", 0.738), ("known:0.5", 0.949)])
def test_the_threshold_is_a_share_of_the_answers(fakes, pupil, spec, share):
    """Binomial of four answers, each right with probability 0.75: at least 4, 3, 2 of them."""
    task = fakes.Toy()
    reasons = make(spec, task, pupil(a=0.75))(problems(task, 600, "a"), stream(0))
    assert reasons.count("known") / 600 == pytest.approx(share, abs=0.06)


def test_a_threshold_of_0_drops_all_that_can_be_judged(fakes, pupil):
    task = fakes.Toy()
    rows = [*problems(task, 2, "a"), row("not a problem of the task")]
    assert make("known:0", task, pupil())(rows, stream(0)) == ["known", "known", None]


def test_the_truth_counts_not_what_the_row_says(fakes, pupil):
    task = fakes.Toy()
    lie = problems(task, 1, "a")[0].model_copy(update={"answer": "?"})
    stated = Example(prompt="z 1", completion="?", answer="?", skill="a")
    assert make("known", task, pupil())([lie, stated], stream(0)) == [None, "known"]


def test_rows_that_cannot_be_judged_pass_unasked(fakes, pupil):
    student = pupil(a=1.0)
    assert make("known", fakes.Toy(), student)([row("x"), row("y")], stream(0)) == [None, None]
    assert student.asked == []


def test_cut_off_answers_are_not_known(fakes, pupil):
    task = fakes.Toy()
    assert make("known", task, pupil(a=1.0, finish="length"))(problems(task, 2, "a"), stream(0)) == [None, None]


# -- helps ------------------------------------------------------------------------------------------------------------


def test_a_row_that_raises_accuracy_in_context_stays(fakes, pupil):
    task, student = fakes.Toy(), pupil(a=0.3)
    assert make("helps", task, student)([row("good"), row("bad"), row("dull")], stream(0))[:2] == [None, "unhelpful"]
    assert student.asked[0][1] == []
    assert [shots for _, shots, *_ in student.asked[1:]] == [["good"], ["bad"], ["dull"]]
    assert {temperature for *_, temperature in student.asked} == {0.0}


def test_the_problems_are_exemplars_of_the_rows_skill_and_others_at_each_call(fakes, pupil):
    task, student = fakes.Toy(), pupil()
    judge = make("helps", task, student, problems=5)
    judge([row("good", "b"), row("bad", "b")], stream(0))
    judge([row("good", "b")], stream(1))
    assert {split for split, *_ in task.asked} == {"exemplar"}
    from dataenv.records import Prompt

    first, second = student.asked[0][0], student.asked[3][0]
    for texts, *_ in student.asked:
        assert len(texts) == 5
        assert {text[0] for text in texts} == {"b"}
        assert {split_of(Prompt(text=text)) for text in texts} == {"exemplar"}
    assert set(first) != set(second)


@pytest.mark.parametrize(
    ("spec", "share", "expected"),
    [
        ("helps", 0.0, [None, "unhelpful"]),
        ("helps:0", 0.0, [None, None]),
        ("helps:-0.5", 0.3, [None, None]),
        ("helps:1", 0.0, [None, "unhelpful"]),
        ("helps:1", 0.5, ["unhelpful", "unhelpful"]),
    ],
)
def test_the_gain_a_row_must_bring_can_be_set(fakes, pupil, spec, share, expected):
    assert make(spec, fakes.Toy(), pupil(a=share))([row("good"), row("bad")], stream(4)) == expected


def test_where_nothing_can_be_gained_or_asked_rows_pass(fakes, pupil):
    student = pupil(a=1.0)
    rows = [row("bad"), row("bad", "unmatched", "other")]
    assert make("helps", fakes.Toy(), student)(rows, stream(0)) == [None, None]
    assert len(student.asked) == 1


# -- both -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", ["known", "helps"])
def test_the_same_generator_gives_the_same_verdicts(fakes, pupil, spec):
    task = fakes.Toy()
    rows = problems(task, 30, "a", "b")

    def verdicts(seed):
        return make(spec, task, pupil(a=0.6, b=0.5))(rows, stream(seed))

    assert verdicts(1) == verdicts(1) != verdicts(2)


@pytest.mark.parametrize(
    ("spec", "options", "word"),
    [
        ("known:much", {}, r"known: threshold must be a number in \[0, 1\]; it is much"),
        ("known:1.5", {}, "known: threshold must be a number"),
        ("known:", {}, "known: threshold must be a number"),
        ("known", {"samples": 0}, "known: samples must be a whole number"),
        ("known", {"temperature": -1}, "known: temperature must be a number"),
        ("helps:2", {}, r"helps: gain must be a number in \[-1, 1\]; it is 2"),
        ("helps", {"problems": 0}, "helps: problems must be a whole number"),
        ("helps", {"depth": 1}, "filter 'helps' has no option 'depth'"),
    ],
)
def test_bad_settings_are_one_sentence(fakes, spec, options, word):
    with pytest.raises(InvalidData, match=word):
        filters.make(spec, task=fakes.Toy(), **options)


def test_an_unknown_filter_is_answered_with_the_nearest(fakes):
    with pytest.raises(UnknownId, match=r"No filter is called 'knwn'; did you mean 'known'.*'dataenv list filters'"):
        filters.make("knwn:0.5", task=fakes.Toy())
