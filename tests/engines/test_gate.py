import pytest
from PIL import Image as Pillow

from dataenv.engines.gate import NGRAM, Gate, ngrams
from dataenv.images import encoded
from dataenv.records import Example, Image, Problem, Prompt
from dataenv.tasks.splits import split_of

LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"


def row(prompt, completion="?", **more):
    return Example(prompt=prompt, completion=completion, **more)


class Silent:
    """A task that recognises nothing and takes the stated answer."""

    def __init__(self, held_out=()):
        self.held_out = lambda: tuple(held_out)

    def recognise(self, prompt):
        return None

    def verify(self, problem, response):
        from dataenv.records import Verdict

        return Verdict(float(response == problem.answer), response == problem.answer)


def test_ngrams_are_all_runs_of_words_and_signs():
    words = LONG.split()
    assert ngrams(LONG) == {" ".join(words[:NGRAM]), " ".join(words[1:])}
    assert ngrams(" ".join(words[: NGRAM - 1])) == set()
    assert ngrams(LONG.upper().replace(" ", "\n ")) == ngrams(LONG)


def test_signs_without_spaces_between_them_count_too():
    assert len(ngrams("1+2+3+4+5+6+7=")) == 2
    assert len(ngrams("?" * NGRAM)) == 1


def test_protected_prompts_are_contaminated_however_they_are_written():
    gate = Gate(Silent(), [Prompt(text="What is 2+2?")])
    assert gate.fault(row("what  IS 2+2?"), set()) == "contaminated"
    assert gate.fault(row("What is 2+3?"), set()) is None


@pytest.mark.parametrize("where", ["protected", "held out"])
def test_a_shared_13_gram_is_contamination(where):
    secret = Prompt(text=f"Ann asks: {LONG}. Who?")
    gate = Gate(Silent(), [secret]) if where == "protected" else Gate(Silent([secret]), [])
    assert gate.fault(row(f"Bob says: {LONG}. What?"), set()) == "contaminated"
    assert gate.fault(row("Bob says: " + " ".join(LONG.split()[:11])), set()) is None


def test_a_question_hidden_in_what_is_taught_is_contamination_too():
    gate = Gate(Silent([Prompt(text=f"Ann asks: {LONG}. Who?")]), [])
    assert gate.fault(row("Say something.", f"Well: {LONG}"), set()) == "contaminated"
    assert gate.fault(row("Say something.", "ok", rejected=f"Well: {LONG}"), set()) == "contaminated"


def test_the_wording_of_a_template_is_no_evidence():
    gate = Gate(Silent(), [Prompt(text=f"{LONG} {i}") for i in (1, 2)])
    assert gate.fault(row(f"{LONG} 3"), set()) is None
    assert gate.fault(row(f"{LONG} 2"), set()) == "contaminated"


def test_the_same_protected_prompt_twice_is_still_one():
    """A problem that is both held out and in the feedback split must not look like a template."""
    secret = Prompt(text=f"Ann asks: {LONG}. Who?")
    gate = Gate(Silent([secret]), [secret])
    assert gate.fault(row(f"Bob says: {LONG}. What?"), set()) == "contaminated"


def test_duplicates_are_told_by_the_key_of_the_prompt():
    gate = Gate(Silent(), [])
    assert gate.fault(row("Q 1", "x"), {Prompt(text="q  1").key}) == "duplicate"


def test_completions_are_judged_by_the_truth_and_only_then_by_the_row_itself(fakes):
    task = fakes.Toy()
    gate = Gate(task, [])
    pool = next(p for i in range(99) if split_of(p := Prompt(text=f"a {i}")) == "pool")
    right = task.recognise(pool).answer
    assert gate.fault(row(pool, right), set()) is None
    assert gate.fault(row(pool, "nonsense", answer="nonsense"), set()) == "wrong"
    assert gate.fault(row("unknown", "nonsense", answer="nonsense"), set()) is None
    assert gate.fault(row("unknown", "nonsense", answer="sense"), set()) == "wrong"
    assert gate.fault(row("unknown", "nonsense"), set()) is None


def test_of_an_endless_task_only_pool_prompts_may_be_taught(fakes):
    """The exam is minted later: a row from its share of all prompts may be the very question."""
    task = fakes.Toy()
    gate = Gate(task, [])
    for i in range(100):
        prompt = Prompt(text=f"a {i}")
        expected = None if split_of(prompt) == "pool" else "contaminated"
        assert gate.fault(row(prompt, f"a:{i}"), set()) == expected


def test_the_same_words_about_another_picture_are_another_question():
    exam, pool = (encoded(Pillow.new("RGB", (2, 2), colour)) for colour in ("red", "blue"))
    gate = Gate(Silent(), [Prompt(text=LONG, images=(exam,))])
    seen = Prompt(text=LONG, images=(pool,))
    assert gate.fault(row(seen), set()) is None and gate.fault(row(LONG), set()) is None
    assert gate.fault(row(Prompt(text=LONG.upper(), images=(exam,))), set()) == "contaminated"


def test_images_that_cannot_be_read_are_not_taught():
    whole = encoded(Pillow.new("RGB", (9, 9), "red"))
    gate = Gate(Silent(), [])
    assert gate.fault(row(Prompt(text="?", images=(whole,))), set()) is None
    for bad in (b"", b"GIF89a", whole.data[:45]):
        assert gate.fault(row(Prompt(text="?", images=(whole, Image(data=bad)))), set()) == "unreadable"


def test_how_to_answer_is_no_evidence_whatever_word_stands_before_it():
    """Else most questions that end in a word of an exam question would be lost, where all end in an instruction."""
    asks = "\n\nAnswer with nothing but the calls, as in tool of value, or nothing at all."
    gate = Gate(Silent(), [Prompt(text=f"Who came in 1911?{asks}"), Prompt(text=f"{LONG} in 2022?{asks}")])
    assert gate.fault(row(f"Who left in 2022?{asks}"), set()) is None
    assert gate.fault(row(f"Who came in 1911?{asks}"), set()) == "contaminated"
    assert gate.fault(row(f"So: {LONG} in 2023?{asks}"), set()) == "contaminated"


def test_the_gate_keeps_no_protected_text():
    secret = f"canary {LONG}"
    gate = Gate(Silent(), [Prompt(text=secret)])
    assert "canary" not in repr(vars(gate))
    assert "fourteen" not in repr(vars(gate))


def test_rows_of_solved_problems_pass(fakes):
    import numpy as np

    task = fakes.Toy()
    gate = Gate(task, [p.prompt for p in task.problems("feedback", 20, 0)])
    written = task.write("a", 50, None, np.random.default_rng(0))
    assert isinstance(written[0], Problem)
    assert {gate.fault(Example.from_problem(p), set()) for p in written} == {None}
