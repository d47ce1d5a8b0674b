"""The prompts of engines, discovery and organiser, to the letter. After a change on purpose look at the difference, and
write them anew; what is to stand in a file is in the failing test.
"""

from pathlib import Path

import pytest

from dataenv.chat.templates import prompts
from dataenv.errors import InvalidData

GOLDEN = Path(__file__).parent / "prompts"

WORKED = {"problem": "What is 2 + 3?", "solution": "2 + 3 = 5\n#### 5", "answer": "5", "difficulty": 0.25}
BARE = {"problem": "Spell cat\nbackward.", "solution": "tac", "answer": "tac", "difficulty": None}
PROBLEMS = ["What is 4 + 4?", "Spell dog\nbackward."]

CASES = {
    "write": ("llm/write", {
        "skill": "adding", "subskill": "with a carry", "difficulty": 0.5, "instruction": "sums of\ntwo digits",
        "exemplar": "What is 9 + 9?", "shown": [WORKED, BARE], "worked": True, "made": ["What is 1 + 1?"], "rows": 3,
    }),
    "write-in-words": ("llm/write", {
        "skill": None, "subskill": None, "difficulty": None, "instruction": "dragons", "exemplar": None,
        "shown": [BARE], "worked": False, "made": [], "rows": 1,
    }),
    "author": ("llm/author", {
        "skill": "adding", "subskill": None, "difficulty": 0.5, "instruction": "", "exemplar": "Two sums.",
        "shown": [{"written": '{"ask": "Add 1 to 2.", "tests": ["3"]}', "difficulty": 0.1}],
        "guide": "- `ask`: what to add;\n- `tests`: what must come out.", "made": ["Add 2 to 2."], "rows": 2,
    }),
    "solve": ("llm/solve", {"problem": PROBLEMS[1], "tools": [], "shown": [WORKED, BARE]}),
    "solve-with-tools": ("llm/solve", {"problem": PROBLEMS[1], "tools": ['{"name": "spell"}'], "shown": []}),
    "reword": ("rephrase/reword", {"problem": PROBLEMS[1]}),
    "label": ("discovery/label", {"problems": PROBLEMS}),
    "cluster": ("discovery/cluster", {"labels": [("adding", 5), ("spelling", 1)], "skills": None, "most": 24}),
    "cluster-into": ("discovery/cluster", {"labels": [("adding", 5), ("spelling", 1)], "skills": 1, "most": 24}),
    "map": ("discovery/map", {"problems": PROBLEMS, "skills": ["sums", "words"]}),
    "propose": ("organiser/propose", {
        "skill": "sums", "skills": ("sums", "words", "x"), "problems": PROBLEMS, "known": ["small sums"], "n": 2,
    }),
    "propose-first": ("organiser/propose", {
        "skill": "sums", "skills": ("sums",), "problems": [], "known": [], "n": 1,
    }),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_to_the_letter(case):
    name, values = CASES[case]
    assert prompts.render(name, **values) + "\n" == (GOLDEN / f"{case}.txt").read_text()


@pytest.mark.parametrize(("case", "missing"), [(case, name) for case, (_, v) in CASES.items() for name in v])
def test_a_value_that_is_missing_is_named(case, missing):
    name, values = CASES[case]
    with pytest.raises(InvalidData, match=rf"{name}\.jinja needs {missing}"):
        prompts.render(name, **{key: value for key, value in values.items() if key != missing})
