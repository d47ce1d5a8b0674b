from hypothesis import given
from hypothesis import strategies as st

from dataenv.records import Problem, Prompt
from dataenv.tasks.fixed import FixedTask
from dataenv.tasks.splits import SHARES, split_of


class Told(FixedTask):
    name = "told:x"
    published = frozenset({"exam", "feedback"})

    def __init__(self, rows):
        self.rows = rows

    def load(self):
        for text, split in self.rows:
            yield Problem(prompt=text, answer=split or "hashed", skill="ab"[len(text) % 2]), split


def where(task):
    return {p.prompt.text: split for split in SHARES for p in task.problems(split, None, 0)}


@given(st.lists(st.tuples(st.text("abcd ", max_size=6), st.sampled_from(["exam", "feedback", None])), max_size=40))
def test_published_splits_stay_the_rest_is_hashed_and_the_first_of_equal_prompts_wins(rows):
    task = Told(rows)
    first = {}
    for text, split in rows:
        first.setdefault(Prompt(text=text).key, (text, split))
    found = where(task)
    assert set(found) == {text for text, _ in first.values()}
    for text, split in first.values():
        hashed = split_of(Prompt(text=text))
        assert found[text] == (split or ("pool" if hashed in task.published else hashed))
        assert task.recognise(Prompt(text=text)).answer == (split or "hashed")
    assert {prompt.text for prompt in task.held_out()} == {t for t, s in found.items() if s in ("exam", "selection")}


def test_an_unknown_prompt_is_not_recognised():
    assert Told([("a", None)]).recognise(Prompt(text="b")) is None


def test_it_is_read_once_and_not_before_it_is_needed():
    reads = []

    class Counting(Told):
        def load(self):
            reads.append(1)
            return super().load()

    task = Counting([("a", None)])
    assert not reads
    assert where(task) and task.held_out() is not None
    assert reads == [1]
