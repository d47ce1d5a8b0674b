"""Invented tools: what is asked is solved anew, fits the micro student, and cannot be answered any other way."""

import numpy as np
import pytest

from dataenv.errors import InvalidData, UnknownId
from dataenv.protocols import AuthoredTask
from dataenv.records import Prompt
from dataenv.tasks import tasks
from dataenv.tasks.tool_drills import LONGEST_ANSWER, SKILLS, ToolDrills, solve
from dataenv.tasks.tool_rows import as_tool
from dataenv.verifiers.tool_call import check_tools, judge, parse

WHOLE, TEXT = {"type": "integer"}, {"type": "string"}


def tool(name, *required, **properties):
    return as_tool(name, "", {"type": "object", "properties": properties, "required": list(required)})


CUT, MIX = tool("cut", "n", n=WHOLE), tool("mix", "k", k=WHOLE)
PAIR = tool("sew", "n", "k", n=WHOLE, k=WHOLE)
LENIENT = tool("tap", "n", n=WHOLE, k={"type": "integer", "default": 4})


@pytest.fixture(scope="module")
def rows():
    task = ToolDrills()
    return {
        (skill, difficulty): task.write(skill, 60, difficulty, np.random.default_rng(0))
        for skill in SKILLS
        for difficulty in (0.0, 0.5, 1.0, None)
    }


@pytest.mark.parametrize("skill", SKILLS)
def test_every_problem_is_of_its_skill_short_and_right(rows, skill):
    from dataenv.students.tool_text import tool_text

    task = ToolDrills()
    for difficulty in (0.0, 0.5, 1.0, None):
        for problem in rows[skill, difficulty]:
            assert problem.skill == skill and task.verify(problem, problem.answer).correct
            shown = f"{tool_text(problem.prompt.tools)}\n\n{problem.prompt.text}"
            assert shown.isascii() and len(shown) <= 70 and len(problem.answer) <= LONGEST_ANSWER
            assert solve(problem.prompt).id == problem.id
    check_tools([tool for problem in rows[skill, None][:5] for tool in problem.prompt.tools])


@pytest.mark.parametrize("skill", SKILLS)
def test_a_call_more_or_less_or_changed_is_wrong(rows, skill):
    for problem in rows[skill, None]:
        calls = parse(problem.answer)
        assert not judge(problem, [*calls, *calls[:1]] if calls else parse("cut(n=1)")).correct
        if not calls:
            continue
        assert not judge(problem, calls[1:]).correct and not judge(problem, []).correct
        key, value = next(iter(calls[0].arguments.items()))
        for wrong in ("zz", 10**6, str(value) if isinstance(value, int) else 10**6):
            changed = calls[0]._replace(arguments={**calls[0].arguments, key: wrong})
            assert not judge(problem, [changed, *calls[1:]]).correct
        assert judge(problem, calls[::-1]).correct == (skill != "sequence")


@pytest.mark.parametrize(
    ("tools", "text", "skill", "answer"),
    [
        ([CUT], "cut 7!", "simple", "cut(n=7)"),
        ([tool("cut", "n", n=TEXT)], "cut 7!", "texts", 'cut(n="7")'),
        ([tool("cut", "n", n=TEXT)], "cut abc!", "texts", 'cut(n="abc")'),
        ([PAIR], "sew k 3 n 12!", "arguments", "sew(k=3, n=12)"),
        ([LENIENT], "tap 5!", "defaults", "tap(n=5)"),
        ([LENIENT], "tap 5 k 6!", "defaults", "tap(n=5, k=6)"),
        ([CUT, MIX], "mix 4!", "multiple", "mix(k=4)"),
        ([CUT], "cut 3 and 5!", "parallel", "cut(n=3), cut(n=5)"),
        ([CUT, MIX], "mix 3 then cut 5!", "sequence", "mix(k=3), cut(n=5)"),
        ([CUT, MIX], "sew 3!", "irrelevance", "[]"),
    ],
)
def test_what_a_request_wants(tools, text, skill, answer):
    problem = solve(Prompt(text=text, tools=tools))
    assert (problem.skill, problem.answer) == (skill, answer)
    assert ToolDrills().recognise(problem.prompt) == problem


def test_a_default_may_be_said_and_must_be_the_right_one():
    problem, task = solve(Prompt(text="tap 5!", tools=[LENIENT])), ToolDrills()
    assert task.verify(problem, "tap(n=5, k=4)").correct and task.verify(problem, "tap(5)").correct
    assert not task.verify(problem, "tap(n=5, k=3)").correct


def test_order_counts_where_the_request_says_then():
    task = ToolDrills()
    then = solve(Prompt(text="mix 3 then cut 5!", tools=[CUT, MIX]))
    assert not task.verify(then, "cut(n=5), mix(k=3)").correct
    assert task.verify(solve(Prompt(text="cut 3 and 5!", tools=[CUT])), "cut(n=5), cut(n=3)").correct


@pytest.mark.parametrize(
    ("tools", "text"),
    [
        ([], "cut 7!"),
        ([CUT], "cut 7"),
        ([CUT], "cut x!"),
        ([CUT], "cut k 7!"),
        ([CUT], "cut 7 and!"),
        ([CUT], "cut 7 then mix 3!"),
        ([CUT], "mix 7 and 8!"),
        ([PAIR], "sew n 3!"),
        ([PAIR], "sew n 3 n 4!"),
        ([CUT], "What is the capital of France?"),
        ([{"name": "cut"}], "cut 7!"),
        ([{"name": "cut", "parameters": {"properties": {"n": 3}, "required": ["n"]}}], "cut 7!"),
        ([{}], "cut 7!"),
    ],
)
def test_what_is_no_drill_is_not_recognised(tools, text):
    found = solve(Prompt(text=text, tools=tools))
    assert found is None or found.skill == "irrelevance"
    assert (found is None) or tools == [{}] or tools[0] == {"name": "cut"}


def test_difficulty_lengthens_names_and_numbers(rows):
    def share_of_known_names(difficulty):
        from dataenv.tasks.tool_drills import NAMES

        names = [call.name for problem in rows["simple", difficulty] for call in parse(problem.answer)]
        return sum(name in NAMES for name in names) / len(names)

    assert share_of_known_names(0.0) == 1 and 0.2 < share_of_known_names(0.5) < 0.8 and share_of_known_names(1.0) == 0
    assert len(rows["multiple", 1.0][0].prompt.tools) == 4 and len(rows["multiple", 0.0][0].prompt.tools) == 2


@pytest.mark.parametrize(
    "parameters",
    [
        {"properties": {"n": {"type": "integer"}, "k": True}, "required": ["n"]},
        {"properties": {"n": {"type": "integer"}}, "required": 5},
        {"properties": {"n": {"type": "integer"}}, "required": [["n"]]},
        {"properties": {"n": {"type": "integer"}}},
        {"properties": {}},
        {"properties": []},
        [],
    ],
)
def test_tools_of_other_kinds_state_no_problem(parameters):
    """Whatever a row of others holds; and a value that is nobody's argument is not dropped in silence."""
    for name in ("cut", ["cut"], None):
        assert solve(Prompt(text="cut 7!", tools=({"name": name, "parameters": parameters},))) is None


def test_some_skills_alone():
    task = tasks.make("tool-drills:parallel,simple")
    assert task.skills == ("parallel", "simple") and task.prerequisites == {"parallel": ("simple",)}
    assert {problem.skill for problem in task.problems("exam", 3, 0)} == {"parallel", "simple"}
    assert task.recognise(Prompt(text="cut 3!", tools=[CUT, MIX])) is None
    with pytest.raises(UnknownId, match="did you mean 'parallel'"):
        tasks.make("tool-drills:paralel")


def test_rows_that_a_model_writes(rows):
    task = ToolDrills()
    assert isinstance(task, AuthoredTask)
    for skill in SKILLS:
        problem = rows[skill, None][0]
        again = task.read(task.told(problem))
        assert (again.prompt.text, again.answer, again.data["ordered"]) == (
            problem.prompt.text, problem.answer, problem.data["ordered"]
        )  # fmt: skip
        assert task.verify(problem, again.answer).correct
    row = {"request": "Cut it into 3.", "tools": [{"name": "cut", "description": "", "parameters": {}}], "calls": []}
    assert task.verify(task.read(row), "[]").correct
    for change, reason in (
        ({"request": " "}, "no request"),
        ({"tools": [{"name": "", "description": "", "parameters": {}}]}, "tool without a valid schema"),
        ({"tools": [{"name": "c", "description": "", "parameters": {"type": 3}}]}, "tool without a valid schema"),
        ({"calls": [{"name": "mix", "arguments": {}}]}, "unknown tool"),
        ({"calls": [{"name": "cut", "arguments": {"n": 3}}]}, "unknown argument"),
    ):
        with pytest.raises(InvalidData, match=reason):
            task.read(row | change)
