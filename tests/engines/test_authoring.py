"""Rows in a task's own form: a toy task whose problems have tools, a picture and tests beyond an answer."""

import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataenv.engines import engines
from dataenv.errors import InvalidData
from dataenv.protocols import AuthoredTask, Task
from dataenv.records import UNMATCHED, Image, Problem, Prompt, Request, Verdict
from dataenv.skills.discovered import discovered

TOOL = {"name": "times"}
FORM = {
    "type": "object",
    "properties": {
        "ask": {"type": "string"},
        "call": {"type": "string"},
        "allowed": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["ask", "call", "allowed"],
    "additionalProperties": False,
}


class Calls:
    """Solve "SKILL N" by calls of a tool: a response is right if it is among the calls that the problem allows."""

    name, skills, prerequisites = "calls", ("a", "b"), {}
    default_engine, max_new_tokens = "pool", 8
    row_guide = "- `ask`: a letter and a number;\n- `call`: what solves it;\n- `allowed`: all that is right."
    row_form = FORM
    drawn = False

    def problem(self, ask, call, allowed, skill="general"):
        images = (Image(data=ask.encode()),) if self.drawn else ()
        prompt = Prompt(text=ask, tools=(TOOL,), images=images)
        return Problem(prompt=prompt, answer="", solution=call, skill=skill, data={"allowed": allowed})

    def problems(self, split, per_skill, seed):
        n = 40 if per_skill is None else per_skill
        return [self.problem(f"{s} {split} {i}", f"{i}!", [f"{i}!", f"{i}?"], s) for s in self.skills for i in range(n)]

    def held_out(self):
        return ()

    def verify(self, problem, response):
        right = response in problem.data["allowed"]
        return Verdict(float(right), right)

    def recognise(self, prompt):
        return None

    def told(self, problem):
        return {"ask": problem.prompt.text, "call": problem.solution, "allowed": problem.data["allowed"]}

    def read(self, written):
        if written["call"] not in written["allowed"]:
            raise InvalidData("refuses itself")
        return self.problem(written["ask"], written["call"], written["allowed"])


def rng(seed=0):
    return np.random.default_rng(seed)


def text_of(question):
    return question.messages[0].content


def is_solving(question):
    return "The problem to solve:" in text_of(question)


def made(id, client, task=None, **options):
    engine = engines.make(id, task=Calls() if task is None else task, **options)
    engine.converse(client)
    return engine


def row(ask, call="1!", allowed=("1!",)):
    return {"ask": ask, "call": call, "allowed": list(allowed)}


def test_the_toy_task_keeps_the_protocols_also_under_discovered_skills():
    task = Calls()
    assert isinstance(task, Task) and isinstance(task, AuthoredTask)
    wrapped = discovered(task, "cluster:2")
    assert isinstance(wrapped, AuthoredTask) and wrapped.read(row("x")) == task.read(row("x"))


def test_a_solved_problem_told_is_the_problem_when_read(chat):
    task = Calls()
    for problem in task.problems("exemplar", 3, 0):
        assert task.read(task.told(problem)).id == problem.id


@pytest.mark.parametrize("id", ["llm", "new-question"])
def test_rows_come_in_the_tasks_form_whole(chat, id):
    client = chat(lambda question: {"rows": [row("a 1"), row("a 2", "2!", ["2!", "2?"])]})
    engine = made(id, client, solutions=0, shown=2)
    request = Request(skill="a", subskill="small", rows=2, difficulty=0.5)
    (rows,) = engine.write([request], rng())
    assert [(r.prompt.text, r.completion, r.data["allowed"]) for r in rows] == [
        ("a 1", "1!", ["1!"]),
        ("a 2", "2!", ["2!", "2?"]),
    ]
    assert all((r.skill, r.subskill, r.difficulty, r.prompt.tools) == ("a", "small", 0.5, (TOOL,)) for r in rows)
    (question,) = client.model.asked
    assert question.json_schema["properties"]["rows"]["items"] == FORM
    assert Calls.row_guide in text_of(question)
    shown = [json.loads(line) for line in re.findall(r"^\| (\{.*\})$", text_of(question), re.M)]
    split = "exemplar" if id == "llm" else "pool"
    assert len(shown) == 2
    for example in shown:
        number = example["ask"].split()[-1]
        assert example == {"ask": f"a {split} {number}", "call": f"{number}!", "allowed": [f"{number}!", f"{number}?"]}


def test_what_the_task_says_of_a_row_that_is_none_is_counted(chat):
    rows = [row("a 1", "2!"), row("a 2", "3!"), row("a 3"), row(" ")]
    engine = made("llm", chat(lambda question: {"rows": rows}), solutions=0, tries=1)
    (found,) = engine.write([Request(skill="a", rows=4)], rng())
    assert [r.prompt.text for r in found] == ["a 3"]
    assert engine.dropped == {"refuses itself": 2, "empty": 1}


def test_a_row_of_another_form_is_no_answer(chat):
    engine = made("llm", chat(lambda question: {"rows": [{"problem": "a 1", "solution": "", "answer": "1!"}]}), tries=1)
    assert engine.write([Request(skill="a", rows=2)], rng()) == [[]]
    assert engine.dropped == {"unparsed": 2}


def test_a_request_in_words_gets_rows_that_name_no_skill(chat):
    engine = made("llm", chat(lambda question: {"rows": [row("dragon 1")]}), solutions=0, tries=1)
    (rows,) = engine.write([Request(skill=UNMATCHED, rows=1, instruction="dragons")], rng())
    assert [r.skill for r in rows] == [UNMATCHED]
    assert "| dragons" in text_of(engine.client.model.asked[0])


def test_independent_solutions_are_held_against_the_rows_own_tests(chat):
    said = {"a 1": iter(["1!", "1?", "no"]), "a 2": iter(["1!", "no", "no"])}

    def answer(question):
        if not is_solving(question):
            return {"rows": [row("a 1", "1!", ["1!", "1?"]), row("a 2")]}
        assert '| {"name": "times"}' in text_of(question)
        problem = text_of(question).split("The problem to solve:\n| ")[1].split("\n")[0]
        return {"solution": next(said[problem]), "answer": "done"}

    engine = made("llm", chat(answer, concurrency=1), tries=1)
    (rows,) = engine.write([Request(skill="a", rows=2)], rng())
    assert [r.prompt.text for r in rows] == ["a 1"]
    assert engine.dropped == {"inconsistent": 1}


def test_a_model_that_sees_no_pictures_is_not_asked_about_them(chat):
    task = Calls()
    task.drawn = True
    engine = made("llm", chat(lambda question: {"rows": [row("a 1")]}), task)
    (rows,) = engine.write([Request(skill="a", rows=1)], rng())
    assert rows[0].prompt.images == (Image(data=b"a 1"),) and not any(map(is_solving, engine.client.model.asked))


def test_a_new_answer_and_other_words_leave_what_a_problem_has(chat):
    task = Calls()
    task.drawn = True
    pool = {p.prompt.text: p for p in task.problems("pool", None, 0)}

    def solve(question):
        number = text_of(question).split("The problem to solve:\n| ")[1].split("\n")[0].split()[-1]
        return {"solution": f"{number}?", "answer": "done"}

    (rows,) = made("answer-augment", chat(solve)).write([Request(skill="a", rows=3)], rng())
    assert len(rows) == 3 and all(r.completion.endswith("?") and r.prompt.tools == (TOOL,) for r in rows)
    assert all(r.data == pool[r.prompt.text].data for r in rows)

    def reword(question):
        return {"problem": "now " + re.search(r"^\| (a pool \d+)$", text_of(question), re.M)[1]}

    (rows,) = made("rephrase", chat(reword), task).write(
        [Request(skill="b", rows=0), Request(skill="a", rows=3)], rng()
    )[1:]
    for r in rows:
        old = pool[r.prompt.text.removeprefix("now ")]
        assert (r.prompt.tools, r.prompt.images, r.data, r.completion) == (
            old.prompt.tools,
            old.prompt.images,
            old.data,
            old.solution,
        )


words = st.one_of(st.sampled_from(["a 1", "a 2", "1!", "", "\x00"]), st.text(max_size=8))


def test_whatever_is_written_only_what_passes_its_own_tests_comes_through(chat):
    said = {}
    engine = made("llm", chat(lambda question: said), tries=1, batch=6, solutions=0)

    @settings(max_examples=40)
    @given(st.lists(st.builds(row, words, words, st.lists(words, max_size=3)), max_size=6))
    def check(rows):
        said["rows"] = rows
        (found,) = engine.write([Request(skill="a", rows=6)], rng())
        assert len(found) + engine.dropped.total() == len(rows)
        assert all(engine.task.verify(r.as_problem(), r.completion).correct for r in found)

    check()


def test_in_an_environment_what_fails_its_own_tests_is_not_taught(fakes, chat):
    def answer(question):
        if is_solving(question):
            return {"solution": "1!", "answer": "done"}
        return {"rows": [row("a 1"), row("a 2", "2!"), row("a 3", "3!", ["3!"])]}

    student = fakes.Scripted()
    env = fakes.make_env(Calls(), student, engine="llm", client=chat(answer))
    env.reset(seed=0)
    *_, info = env.step(fakes.deal(env, 3))
    assert [r.prompt.text for r in student.lessons[0][0]] == ["a 1"]
    assert info["rows"]["shortfall"] == {"a": 2}
    assert info["rows"]["dropped"].keys() == {"refuses itself", "inconsistent", "duplicate"}
