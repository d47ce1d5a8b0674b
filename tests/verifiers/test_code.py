"""Code in replies: where it is found, and what becomes of it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataenv.records import Problem
from dataenv.verifiers import code
from dataenv.verifiers.sandbox import IsolationMissing, Outcome, shared

F = "def f(x):\n    return x + 1"


@pytest.mark.parametrize(
    "response",
    [
        F,
        f"\n {F} \n",
        f"```python\n{F}\n```",
        f"```\n{F}\n```",
        f"```py\n{F}\n```\n",
        f"~~~python\n{F}\n~~~",
        f"Here is the function:\n\n```python\n{F}\n```\nIt adds one.",
        f"```python\n{F}",
        f"Sure:\n```Python3 title=f.py\n{F}\n```",
        f"First:\n```python\ndef g(): pass\n```\nthen\n```python\n{F}\n```\n```python\nprint(f(3) * 10 ** 100)\n```",
        f"```text\nsome words\n```\n```python\n{F}\n```",
        f"```json\n{{}}\n```\n```\n{F}\n```\n```bash\npython f.py # much longer than the function is, by far\n```",
        f"Wrong: \n```python\ndef f(x): return 0\n```\nBetter:\n```python\n{F}\n```",
        f"The function is this.\n{F}\nThis adds one to x.",
        f"{F}\n\nThe function adds one.",
    ],
)
def test_the_code_is_found(response):
    assert code.extract(response, "f").strip() == F


def test_replies_without_code_are_taken_as_they_are():
    assert code.extract("", "f") == "" and code.extract("    return 1", "f") == "    return 1"
    assert code.extract("I do not know", "f") == "I do not know"
    assert code.extract("```python\n```", "f") == ""
    assert code.extract("a\n```\nb") == "a\n```\nb" or code.extract("a\n```\nb") == "b"


def test_imports_and_helpers_of_a_reply_without_a_fence_are_kept():
    source = (
        "import math\nfrom os import path\n\nN = 3\n\n@cache\ndef g(x):\n    # one\n    return x\n\nclass A:\n    x = 1"
    )
    assert code.extract(f"Here:\n{source}\n\nThat is all.") == source


@given(st.text(alphabet="`~python \ndef f(x):", max_size=300))
@settings(max_examples=300)
def test_extraction_takes_any_text(text):
    assert isinstance(code.extract(text, "f"), str)


@pytest.mark.parametrize(
    "text", ["```\n" * 20000, "`" * 10**5, "def " * 20000, "```python " * 9000, "\n" * 10**5, " " * 10**5]
)
def test_extraction_is_linear(text):
    assert len(code.extract(text, "f")) <= len(text)


def test_a_reply_is_completed_by_the_stub():
    stub = "import math\n\ndef g(x):\n    return x\n\ndef f(x):\n    '''Add one.'''\n"
    assert code.complete("    return g(x)", "f", stub).endswith("'''Add one.'''\n    return g(x)")
    assert code.complete(F, "f", stub) == "import math\n\ndef g(x):\n    return x\n\n" + F
    assert code.complete(F, "f", "") == F and code.complete("x", None, stub) == "x"


def test_what_defines_a_function():
    assert code.defines("async def f(): pass", "f") and code.defines("f = lambda: 1", "f")
    assert code.defines("class Solution:\n  pass", "Solution.go")
    assert not code.defines("def ff(): pass", "f") and not code.defines("    def f(self): pass", "f")


@pytest.fixture(scope="module")
def problem():
    try:
        shared().check()
    except IsolationMissing as error:
        pytest.skip(str(error))
    return Problem(prompt="f", answer=F, data={"entry": "f", "tests": "assert f(1) == 2\nassert candidate(5) == 6"})


def test_the_verdict_has_the_code_and_the_reason(problem):
    verdict = code.verify(problem, f"Well:\n```python\n{F}\n```")
    assert (verdict.score, verdict.correct, verdict.extracted) == (1.0, True, F)
    verdict = code.verify(problem, "def f(x): return 2")
    assert not verdict.correct and verdict.reason.startswith("f(5) gave 2; assert candidate(5) == 6")
    assert code.verify(problem, "").reason == "no code"
    assert code.verify(problem, "x" * 60_000).reason == "longer than 50,000 characters"
    assert "SyntaxError" in code.verify(problem, "def f(x) return 2").reason


def test_the_same_is_not_run_twice(problem, monkeypatch):
    code.verify(problem, "def f(x): return x + 1 + 0")

    def fail(*args, **options):
        raise AssertionError("was run again")

    monkeypatch.setattr(type(shared()), "trial", fail)
    assert code.verify(problem, "def f(x): return x + 1 + 0").correct
    with pytest.raises(AssertionError, match="again"):
        code.verify(problem, "def f(x): return x + 1 + 1")


def test_unsafe_code_goes_to_the_unsafe_sandbox(problem, monkeypatch):
    seen = []
    monkeypatch.setattr(code, "shared", lambda unsafe, limits: seen.append(unsafe) or shared(False))
    monkeypatch.setattr(type(shared()), "trial", lambda *args, **options: Outcome(True))
    assert code.passes("a unique text", problem, unsafe=True).passed and seen == [True]
