"""The whole of BFCL: every official answer is right, and every way to make it wrong is seen."""

import json
import random
import sys
from collections import Counter, defaultdict
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from dataenv.errors import InvalidData, MissingDependency
from dataenv.protocols import AuthoredTask, Task
from dataenv.tasks import bfcl
from dataenv.tasks.bfcl import BFCL, INSTRUCTION, SKILLS, json_schema
from dataenv.verifiers.tool_call import Call, check_tools, judge, parse, render

_spec = spec_from_file_location("tool_mutants", Path(__file__).with_name("tool_mutants.py"))
mutants = module_from_spec(_spec)
_spec.loader.exec_module(mutants)

real = pytest.mark.skipif(find_spec("bfcl_eval") is None, reason="bfcl-eval is not installed")


@pytest.fixture(scope="module")
def task():
    return BFCL()


@pytest.fixture(scope="module")
def by_skill(task):
    found = defaultdict(list)
    for problem, _ in task.load():
        found[problem.skill].append(problem)
    return found


@real
def test_every_problem_is_there(task, by_skill):
    assert {skill: len(problems) for skill, problems in by_skill.items()} == {
        "simple": 400, "multiple": 200, "parallel": 200, "parallel_multiple": 200, "irrelevance": 240,
        "live_simple": 256, "live_multiple": 1051, "live_parallel": 16, "live_parallel_multiple": 24,
        "live_irrelevance": 884,
    }  # fmt: skip
    assert task.unsound == [
        "live_simple_106-63-0", "live_simple_112-68-0", "live_multiple_862-181-3", "live_multiple_964-207-0"
    ]  # fmt: skip
    assert isinstance(task, Task) and isinstance(task, AuthoredTask)


@real
@pytest.mark.parametrize("skill", SKILLS)
def test_every_official_answer_is_right_in_every_form_and_order(task, by_skill, skill):
    for problem in by_skill[skill]:
        assert task.verify(problem, problem.answer).correct
        calls = parse(problem.answer, problem.prompt.tools)
        objects = [{"name": call.name, "arguments": call.arguments} for call in calls]
        if skill != "parallel":
            assert judge(problem, calls[::-1]).correct
        assert parse(json.dumps(objects), ()) == calls
        assert not calls or parse("\n".join(f"<tool_call>{json.dumps(o)}</tool_call>" for o in objects)) == calls
        for i, (wanted, call) in enumerate(zip(problem.data["calls"], calls, strict=True)):
            for key, values in wanted["arguments"].items():
                schema = next(t["function"] for t in problem.prompt.tools if t["function"]["name"] == call.name)
                if key not in schema["parameters"]["properties"]:
                    continue  # three answers allow an argument that their tool does not have
                for value in values:
                    if value != "" and not isinstance(value, dict | list):
                        other = Call(call.name, {**call.arguments, key: value})
                        assert judge(problem, [*calls[:i], other, *calls[i + 1 :]]).correct


@real
@pytest.mark.parametrize("skill", SKILLS)
def test_every_mutant_of_every_official_answer_is_wrong(task, by_skill, skill):
    applied = Counter()
    for problem in by_skill[skill]:
        calls = parse(problem.answer, problem.prompt.tools)
        allowed = problem.data["calls"][0]["arguments"] if calls else {}
        for mutant in mutants.OF_CALLS:
            if (wrong := mutant(calls, allowed)) or wrong == []:
                if wrong == calls:
                    continue
                applied[mutant.__name__] += 1
                verdict = judge(problem, wrong)
                assert not verdict.correct and verdict.reason, (mutant.__name__, problem.answer, render(wrong))
        for name, mutate in mutants.OF_TEXTS.items():
            applied[name] += 1
            assert not task.verify(problem, mutate(problem.answer)).correct, (name, problem.answer)
    assert len(applied) >= (12 if "irrelevance" in skill else 20), applied
    assert all(n > 0.9 * len(by_skill[skill]) for name, n in applied.items() if name in ("extra_call", "prose"))


@real
@pytest.mark.parametrize("skill", ["multiple", "parallel_multiple", "live_multiple"])
def test_another_tool_at_hand_is_the_wrong_one(by_skill, skill):
    for problem in by_skill[skill]:
        calls = parse(problem.answer, problem.prompt.tools)
        for tool in problem.prompt.tools:
            if tool["function"]["name"] not in {call.name for call in calls}:
                assert not judge(problem, [calls[0]._replace(name=tool["function"]["name"]), *calls[1:]]).correct


@real
def test_every_schema_is_json_schema(by_skill):
    tools = {json.dumps(t, sort_keys=True) for ps in by_skill.values() for p in ps for t in p.prompt.tools}
    assert len(tools) == 3098
    check_tools([json.loads(tool) for tool in random.Random(0).sample(sorted(tools), 300)])


@real
def test_a_request_that_is_asked_twice_with_other_tools_is_in_one_split(task):
    seen = {}
    for split in ("exemplar", "feedback", "selection", "exam", "pool"):
        for problem in task.problems(split, None, 0):
            assert seen.setdefault(problem.prompt.text, split) == split
    assert len(seen) == 3238
    assert sum(seen[p.text] == "pool" for p in task.held_out()) == 0


@real
def test_what_is_told_is_the_problem_when_read(task):
    for problem in task.problems("exemplar", 6, 0):
        again = task.read(task.told(problem))
        assert again.prompt == problem.prompt and parse(again.answer) == parse(problem.answer)
        assert task.verify(problem, again.answer).correct and task.verify(again, problem.answer).correct


@real
def test_the_leaderboards_own_checker_says_the_same(by_skill, monkeypatch):
    """Its module imports all model handlers for one table, which is replaced."""
    table = ModuleType("bfcl_eval.constants.model_config")
    table.MODEL_CONFIG_MAPPING = defaultdict(lambda: SimpleNamespace(underscore_to_dot=False))
    monkeypatch.setitem(sys.modules, table.__name__, table)
    from bfcl_eval.constants.enums import Language
    from bfcl_eval.eval_checker.ast_eval.ast_checker import ast_checker

    folder = Path(find_spec("bfcl_eval").submodule_search_locations[0]) / "data"
    rng, compared = random.Random(0), Counter()
    for skill, file in SKILLS.items():
        if "irrelevance" in skill:
            continue
        answers = {
            row["id"]: row["ground_truth"] for row in map(json.loads, (folder / "possible_answer" / file).open())
        }
        rows = [json.loads(line) for line in (folder / file).open()]
        for row in rng.sample(rows, min(len(rows), 60)):
            problem = bfcl._problem(folder / file, 1, row, skill, answers, check=False)
            calls = parse(problem.answer, problem.prompt.tools)
            wrong = [m(calls, problem.data["calls"][0]["arguments"]) for m in mutants.OF_CALLS]
            for made in [calls, calls[::-1], *filter(None, wrong)]:
                said = [{call.name: call.arguments} for call in made]
                official = ast_checker(row["function"], said, answers[row["id"]], Language.PYTHON, skill, "any")[
                    "valid"
                ]
                assert judge(problem, made).correct == official or row["id"] == "parallel_178", render(made)
                compared[official] += 1
    assert compared[True] > 500 and compared[False] > 2000


def test_the_leaderboards_words_for_types():
    written = {
        "type": "dict",
        "properties": {
            "type": {"type": "float", "optional": True},
            "any": {"type": "any", "default": None},
            "points": {"type": "array", "items": {"type": "tuple", "items": {"type": "float"}}},
        },
        "required": ["type"],
    }
    assert json_schema(written) == {
        "type": "object",
        "properties": {
            "type": {"type": "number"},
            "any": {"default": None},
            "points": {"type": "array", "items": {"type": "array", "items": {"type": "number"}}},
        },
        "required": ["type"],
    }


def test_without_the_package_the_sentence_names_it(monkeypatch):
    monkeypatch.setattr("dataenv.tasks.sources.find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match=r"pip install --no-deps bfcl-eval"):
        BFCL().problems("feedback", 1, 0)


# -- a folder of one's own -------------------------------------------------------------------------------------------

TOOL = {
    "name": "add",
    "description": "Adds.",
    "parameters": {"type": "dict", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "possible_answer").mkdir()
    for skill, file in SKILLS.items():
        row = {"id": skill, "question": [[{"role": "user", "content": f"{skill}?"}]], "function": [TOOL]}
        (tmp_path / file).write_text(json.dumps(row))
        if "irrelevance" not in skill:
            answer = {"id": skill, "ground_truth": [{"add": {"a": [1]}}]}
            (tmp_path / "possible_answer" / file).write_text(json.dumps(answer))
    return tmp_path


def test_a_folder_is_read(folder):
    problems = [problem for problem, _ in BFCL(str(folder)).load()]
    assert [p.skill for p in problems] == list(SKILLS)
    assert problems[0].prompt.text == "simple?" + INSTRUCTION and problems[0].answer == "[add(a=1)]"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": 7}, "line 1: a row needs 'id'"),
        ({"question": "?"}, "line 1: not a problem of the leaderboard"),
        ({"id": "other"}, "line 1: not a problem of the leaderboard"),
        ({"function": [{**TOOL, "parameters": {"type": "dict", "properties": {"a": {"type": "flot"}}}}]},
         r"line 1: Tool 'add': at parameters\.properties\.a\.type: no JSON Schema"),
        ({"function": [{"name": "add"}]}, "line 1: not a problem of the leaderboard"),
    ],
)  # fmt: skip
def test_a_row_that_is_wrong_is_named(folder, change, message):
    file = folder / SKILLS["simple"]
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(InvalidData, match=message):
        list(BFCL(str(folder)).load())


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InvalidData, match=r"BFCL_v4_simple_python\.json: there is no such file"):
        list(BFCL(str(tmp_path)).load())
