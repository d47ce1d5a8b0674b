"""m&m's, from files as the published ones are."""

import json
import sys
import warnings
from types import SimpleNamespace

import pytest

from dataenv.errors import InvalidData, MissingDependency, Note
from dataenv.protocols import AuthoredTask, Task
from dataenv.records import Example
from dataenv.tasks.mnms import EXAM, FIELDS, INSTRUCTION, KINDS, REST, SKILLS, TOOLS, MnMs, program
from dataenv.tasks.splits import SHARES
from dataenv.verifiers.tool_call import Call, check_tools, parse

CAPTION = {"id": 0, "name": "image captioning", "args": {"image": "1.jpg"}}
STORY = {"id": 1, "name": "text generation", "args": {"text": "a story of <node-0>.text, in {braces}"}}
READ = {"id": 0, "name": "optical character recognition", "args": {"image": "1.jpg"}}
FACT = {"id": 0, "name": "get year fact", "args": {"year": 1900}}
PLANS = [
    [CAPTION],
    [CAPTION, STORY],
    [FACT],
    [{"id": 7, "name": "object detection", "args": {"image": "2.jpg"}},
     {"id": 9, "name": "count", "args": {"objects": "<node-7>.objects"}},
     {"id": 11, "name": "get math fact", "args": {"number": "<node-9>.number"}}],
    [{"id": 0, "name": "image crop left", "args": {"image": "3.jpg"}}],
    [FACT, {"id": 1, "name": "text summarization", "args": {"text": "<node-0>.text"}}],
    [{"id": 0, "name": "love calculator", "args": {"first_name": "A", "second_name": "B"}},
     {"id": 1, "name": "count", "args": {"objects": "<node-0>.number"}}],
    [{"id": 0, "name": "image generation", "args": {"text": "a house"}},
     {"id": 1, "name": "image crop top", "args": {"image": "<node-0>.image"}}],
]  # fmt: skip


def row(id, plan, **more):
    return {"id": id, "user_request": f"Request number {id}, please", "plan_str": str(plan), "code_str": "", **more}


def write(folder, exam, rest):
    for part, rows in ((EXAM, exam), (REST, rest)):
        (folder / f"{part}.json").write_text("\n".join(map(json.dumps, rows)))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    exam = [row(i, PLANS[i % 8], alt_plans_str="[]") for i in range(80)]
    rest = [*exam[:40], *(row(i, PLANS[i % 8], alt_plans_str=None) for i in range(80, 320))]
    return write(tmp_path_factory.mktemp("mnms"), exam, rest)


@pytest.fixture(scope="module")
def task(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Note)
        task = MnMs(str(folder))
        task.held_out()
    return task


def one(tmp_path, plan, **more):
    """The problem of one row."""
    problems = MnMs._problem("here", row(0, plan, **more))
    return problems


def test_the_exam_is_the_published_one_and_no_other_problem_is_in_it(task):
    assert isinstance(task, Task) and isinstance(task, AuthoredTask)
    sizes = {split: len(task.problems(split, None, 0)) for split in SHARES}
    assert sizes["exam"] == 80 and sum(sizes.values()) == 320
    assert sizes["pool"] > sizes["feedback"] > sizes["exemplar"] > 0
    numbers = {int(p.prompt.text.split()[2].strip(",")) for p in task.problems("exam", None, 0)}
    assert numbers == set(range(80))


def test_every_skill_is_a_mix_of_kinds(task):
    assert {problem.skill for problem in task.problems("exam", None, 0)} == set(SKILLS)
    assert len(TOOLS) == 33 == len(KINDS) and all(FIELDS.values())
    check_tools(TOOLS)


def test_every_reference_program_is_right(task):
    for problem in task.problems("exam", None, 0):
        assert task.verify(problem, problem.answer).correct
        example = Example.from_problem(problem)
        assert task.verify(example.as_problem(), example.completion).correct


def test_tools_that_no_feedback_problem_uses_are_named(folder):
    task = MnMs(str(folder))
    with pytest.warns(Note, match="no feedback problem uses automatic_speech_recognition, background_blur"):
        task.problems("feedback", 1, 0)
    assert "emoji" in task.unseen and "get_year_fact" not in task.unseen


def test_a_plan_becomes_a_program_with_what_flows(tmp_path):
    problem = one(tmp_path, PLANS[1])
    assert problem.answer == (
        'output0 = image_captioning(image="1.jpg")\n'
        "output1 = text_generation(text=f\"a story of {output0['text']}, in {{braces}}\")"
    )
    assert [c.arguments for c in parse(problem.answer)][1] == {"text": "a story of <node-0>.text, in {braces}"}
    assert one(tmp_path, PLANS[3]).answer.endswith("output2 = get_math_fact(number=output1['number'])")
    assert program([Call("f", {"a": "<node-0>", "b": 2, "c": "to <node-0>"})]) == (
        'output0 = f(a=output0, b=2, c=f"to {output0}")'
    )


RIGHT = [
    "output0 = image_captioning(image='1.jpg')\noutput1 = text_generation(text=output0['text'])",
    "text_generation(text=image_captioning(image='1.jpg')['text'])",
    "text_generation(image_captioning('other.jpg'))",
    "text_generation(\n    text=f\"{image_captioning('1.jpg').text} and so on\",\n)",
    "```python\ndef solve():\n    a = image_captioning(image='1.jpg')\n"
    "    b = text_generation(text='On ' + a['text'])\n"
    "    result = {0: a, 1: b}\n    return result\n```",
]
OTHER_FLOW = [
    "a = image_captioning(image='1.jpg')\nb = text_generation(text='a story')",
    "a = image_captioning(image='1.jpg')\nb = text_generation(text=a['image'])",
    "a = image_captioning(picture='1.jpg')\nb = text_generation(text=a['text'])",
    "a = image_captioning()\nb = text_generation(text=a['text'])",
]
WRONG = [
    "a = text_generation(text='x')\nb = image_captioning(image='1.jpg')",
    "image_captioning(image='1.jpg')",
    "a = image_captioning(image='1.jpg')\nb = text_generation(text=a['text'])\nc = text_summarization(text=b['text'])",
    "a = image_captioning(image='1.jpg')\na = image_captioning(image='1.jpg')\nb = text_generation(text=a['text'])",
    "a = image_classification(image='1.jpg')\nb = text_generation(text=a['text'])",
    "I would caption the image, then write a story.",
    "a = image_captioning(image='1.jpg')\nb = text_generation(text=a['te",
    "a = image_captioning(image=0x" + "f" * 5000 + ")\nb = text_generation(text=a['text'])",
    "",
]


def test_the_calls_their_order_and_what_flows_count(task, tmp_path):
    problem = one(tmp_path, PLANS[1])
    for text in RIGHT:
        assert task.verify(problem, text).correct, text
    for text in OTHER_FLOW:
        verdict = task.verify(problem, text)
        assert (verdict.score, verdict.correct) == (0.5, False), text
        assert MnMs("x", flow=False).verify(problem, text).correct, text
    for text in WRONG:
        assert task.verify(problem, text).score == 0.0, text
        assert not MnMs("x", flow=False).verify(problem, text).correct, text


def test_alternative_plans_count_unless_told_otherwise(task, tmp_path):
    problem = one(tmp_path, PLANS[0], alt_plans_str=str([[READ], [CAPTION, STORY]]))
    for text in ("image_captioning('1.jpg')", "optical_character_recognition(image='1.jpg')", RIGHT[0]):
        assert task.verify(problem, text).correct
    alone = MnMs("x", alternatives=False)
    assert alone.verify(problem, "image_captioning('1.jpg')").correct
    assert not alone.verify(problem, RIGHT[0]).correct


def test_what_is_told_is_the_problem_when_read(task):
    for problem in task.problems("exemplar", 3, 0):
        assert task.read(task.told(problem)).id == problem.id


@pytest.mark.parametrize(
    ("calls", "reason"),
    [
        ([], "no calls"),
        ([Call("imagine", {})], "unknown tool"),
        ([Call("count", {})], "missing argument"),
        ([Call("image_captioning", {"image": 3})], "wrong type"),
        ([Call("image_captioning", {"image": "<node-0>.image"})], "reference to no earlier call"),
        ([Call("get_location", {"city": "Ulm"}), Call("image_captioning", {"image": "<node-0>.image"})],
         "reference to a field that is not returned"),
    ],
)  # fmt: skip
def test_a_written_row_that_cannot_be_run_is_refused(task, calls, reason):
    with pytest.raises(InvalidData, match=reason):
        task.read({"request": "?", "calls": [call._asdict() for call in calls]})


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"user_request": None}, "line 1: a row needs 'user_request' and 'plan_str'"),
        ({"plan_str": "__import__('os').system('touch x')"}, "line 1: 'plan_str' is not the text of a list"),
        ({"plan_str": "{}"}, "'plan_str' is not the text of a list"),
        ({"plan_str": "[]"}, "a plan calls nothing"),
        ({"plan_str": "[1]"}, "a plan is a list of calls"),
        ({"plan_str": "[{'id': 0, 'name': 'fly'}]"}, "a plan calls fly; it must call some of the 33 tools"),
        ({"plan_str": str([{**STORY, "args": {"text": "<node-5>.text"}}])}, "a plan is a list of calls"),
        ({"alt_plans_str": "3"}, "'alt_plans_str' is not the text of a list"),
    ],
)
def test_a_row_that_is_wrong_is_named(tmp_path, bad, message):
    write(tmp_path, [row(0, PLANS[0]) | bad], [])
    with pytest.raises(InvalidData, match=message):
        list(MnMs(str(tmp_path)).load())


def test_files_that_are_not_there_are_named(tmp_path):
    with pytest.raises(InvalidData, match=EXAM):
        list(MnMs(str(tmp_path)).load())


def test_out_of_reach_of_the_hub_the_sentence_says_what_to_do(monkeypatch):
    def unreachable(*args, **options):
        assert args[0] == "zixianma/mnms" and len(options["revision"]) == 40
        raise OSError

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=unreachable))
    with pytest.raises(InvalidData, match="use mnms:FOLDER"):
        MnMs().held_out()
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingDependency, match="datasets"):
        MnMs().held_out()


def test_the_prompt_says_what_a_reply_looks_like(tmp_path):
    problem = one(tmp_path, PLANS[0])
    assert problem.prompt.text == "Request number 0, please" + INSTRUCTION and len(problem.prompt.tools) == 33
