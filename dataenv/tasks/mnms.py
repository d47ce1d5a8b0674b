"""m&m's: plans of tool calls that use what earlier ones returned (Ma et al. 2024, arXiv:2403.11085, MIT licence).

A request wants one to three of 33 tools: models that read text, images and sound, modules that edit images, and public
services. A reply is a short Python program, an assignment a line; it is read whole and never run. It is right when it
calls the tools of the reference plan, or of one of its alternatives, in their order, with the arguments that the plan
names, fed by the same earlier calls; what texts say is not compared. A skill is the kinds of tools in the plan.

The plans that people verified and that run (`test_human_verified_filtered`, 882) are the exam; the others that people
verified (683) are divided into the other splits by content hash. Tools that no feedback problem uses are named in a
note when the data is read.

Source: https://huggingface.co/datasets/zixianma/mnms, or a folder with both files (`.json`, a row a line).
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from pydantic import JsonValue

from dataenv.errors import InvalidData, Note
from dataenv.records import Problem, Prompt, Split, Verdict
from dataenv.tasks.fixed import FixedTask
from dataenv.tasks.sources import Folder, Hub, Row, json_lines
from dataenv.tasks.tool_rows import ToolRows, as_tool, calls_form
from dataenv.verifiers.tool_call import Call, NoCalls, parse, refused, render

REVISION = "da313260161c982eb2004bb15761d7aa2e03eb4f"
"""The commit of the Hub dataset that is read when no folder is given: the one that the paper's own code reads."""

EXAM, REST = "test_human_verified_filtered", "test_human_verified"

INSTRUCTION = (
    "\n\nAnswer with a program of one call a line, as in output0 = tool(argument=value); a later call takes a field of "
    "what an earlier one returned, as in output0['text']."
)

_TABLE = """
text_generation | text | text | models | Continues a text.
text_summarization | text | text | models | Sums a text up in a few sentences.
text_classification | text | text | models | Says which class a text is of, such as its sentiment.
question_answering | text, question | text | models | Answers a question about a text.
image_generation | text | image | models | Makes an image of what a text describes.
image_captioning | image | text | models | Describes an image.
optical_character_recognition | image | text | models | Reads the text in an image.
image_classification | image | text | models | Says what an image shows.
image_editing | image, prompt | image | models | Changes an image as a text says.
object_detection | image | image, objects | models | Finds the objects in an image, with their boxes.
image_segmentation | image | image, objects | models | Finds the objects in an image, with their masks.
automatic_speech_recognition | audio | text | models | Writes down what is said in a recording.
visual_question_answering | image, question | text | models | Answers a question about an image.
image_crop | image, object | image | images | Cuts an object's box out of an image.
image_crop_left | image | image | images | Keeps the left part of an image.
image_crop_right | image | image | images | Keeps the right part of an image.
image_crop_top | image | image | images | Keeps the upper part of an image.
image_crop_bottom | image | image | images | Keeps the lower part of an image.
background_blur | image, object | image | images | Blurs all of an image but an object.
color_pop | image, object | image | images | Makes all of an image grey but an object.
count | objects | number | images | Counts objects.
tag | image, objects | image | images | Writes on an image what its objects are.
select_object | objects, object_name | object | images | Picks the object of a name.
emoji | image, object, emoji | image | images | Puts an emoji in the place of an object.
get_date_fact | date | text | services | Says something about a date, such as 2/7.
get_year_fact | year | text | services | Says something about a year.
get_math_fact | number | text | services | Says something mathematical about a number.
get_trivia_fact | number | text | services | Says something about a number.
love_calculator | first_name, second_name | number | services | Says how well two people fit.
get_location | city | lon, lat | services | Says where a city is.
search_movie | movie_title, movie_year | text | services | Says what a film is about.
get_weather | lon, lat | objects | services | Says what weather is coming at a place.
wikipedia_simple_search | text | text | services | Sums up the page of Wikipedia on something.
"""
_TYPES: dict[str, Any] = {"objects": {}, "object": {}} | {
    key: {"type": ["string", "number"]} for key in ("year", "number", "lon", "lat", "movie_year")
}


def _columns() -> Iterator[tuple[str, list[str], list[str], str, str]]:
    for line in _TABLE.strip().splitlines():
        name, takes, gives, kind, says = (part.strip() for part in line.split("|"))
        yield name, takes.split(", "), gives.split(", "), kind, says


KINDS: dict[str, str] = {name: kind for name, _, _, kind, _ in _columns()}
"""Tool -> its kind."""
FIELDS: dict[str, list[str]] = {name: gives for name, _, gives, _, _ in _columns()}
"""Tool -> the fields of what it returns."""
TOOLS: tuple[dict[str, Any], ...] = tuple(
    as_tool(
        name,
        f"{says} Returns {', '.join(gives)}.",
        {
            "type": "object",
            "properties": {key: _TYPES.get(key, {"type": "string"}) for key in takes},
            "required": takes,
        },
    )
    for name, takes, gives, _, says in _columns()
)
_ASKED = Prompt(text="", tools=TOOLS)
"""Copied for each problem: checking 33 schemas anew each time would be most of the work of reading the data."""
_ORDER = ("models", "images", "services")
SKILLS = tuple(" and ".join(kinds) for n in (1, 2, 3) for kinds in combinations(_ORDER, n))

_NODE = re.compile(r"<node-(\d{1,3})>(?:\.([A-Za-z_]\w*))?")
Plan = list[Call]


class MnMs(FixedTask, ToolRows):
    """The mnms task, from `folder`, or from the Hub at `revision` when there is no folder.

    `flow` False counts the names of the tools in their order alone, as the paper does; `alternatives` False counts
    only the first reference plan. Nothing is read before the first use; then InvalidData names the file and line that
    cannot be read, or says what to do when the Hub cannot be reached.
    """

    name = "mnms"
    skills = SKILLS
    prerequisites: Mapping[str, tuple[str, ...]] = MappingProxyType(
        {skill: tuple(skill.split(" and ")) for skill in SKILLS if " and " in skill}
    )
    max_new_tokens = 256
    published: ClassVar[frozenset[Split]] = frozenset({"exam"})
    instruction = INSTRUCTION
    row_form: Mapping[str, Any] = calls_form(with_tools=False)
    row_guide = (
        "- `request`: what somebody asks, in words, with the names of files where images or sound are given;\n"
        "- `calls`: what solves it, in order, each with the name of a tool and its arguments. A value that an earlier "
        'call returns is written "<node-K>.FIELD", where K is that call\'s place, from 0. The tools, with what they '
        "take and return:\n" + "\n".join(f"  {n}({', '.join(t)}) -> {', '.join(g)}" for n, t, g, _, _ in _columns())
    )

    def __init__(
        self,
        folder: str | None = None,
        *,
        revision: str = REVISION,
        flow: bool = True,
        alternatives: bool = True,
    ) -> None:
        self._folder = Path(folder) if folder else None
        self._hub = Hub("zixianma/mnms", revision, f"download {EXAM}.json and {REST}.json from it and use mnms:FOLDER")
        self._flow, self._alternatives = flow, alternatives
        self.unseen: tuple[str, ...] = ()
        """Tools that no feedback problem uses; filled when the data is read."""

    def load(self) -> Iterator[tuple[Problem, Split | None]]:
        """The exam, then the other plans that people verified."""
        exam = set()
        unseen = set(KINDS)
        for where, row in self._rows(EXAM):
            exam.add(row.get("id"))
            yield self._problem(where, row), "exam"
        for where, row in self._rows(REST):
            if row.get("id") not in exam:
                problem = self._problem(where, row)
                if self._hashed(problem.prompt) == "feedback":
                    unseen -= {call.name for call in _plans(problem)[0]}
                yield problem, None
        self.unseen = tuple(sorted(unseen))
        if unseen:
            warnings.warn(f"mnms: no feedback problem uses {', '.join(self.unseen)}.", Note, stacklevel=3)

    def verify(self, problem: Problem, response: str) -> Verdict:
        """Right when the calls are those of a reference plan; the right tools in the right order alone score 0.5."""
        try:
            calls = parse(response, problem.prompt.tools)
        except NoCalls as error:
            return Verdict(0.0, False, f"no calls: {error}")
        plans = _plans(problem)[: None if self._alternatives else 1]
        shown = render(calls)[:500]
        same = [plan for plan in plans if [call.name for call in plan] == [call.name for call in calls]]
        if not same:
            wanted = ", ".join(call.name for call in plans[0]) if plans else "no plan"
            return Verdict(0.0, False, f"expected {wanted}", shown)
        if not self._flow or any(_same_flow(plan, calls) for plan in same):
            return Verdict(1.0, True, extracted=shown)
        return Verdict(0.5, False, "the right tools, with other arguments or fed by other calls", shown)

    def told(self, problem: Problem) -> dict[str, Any]:
        """A solved problem as request and calls."""
        calls = [call._asdict() for call in _plans(problem)[0]]
        return {"request": problem.prompt.text.removesuffix(INSTRUCTION), "calls": calls}

    def read(self, written: Mapping[str, Any]) -> Problem:
        """The problem that a row states. Raises InvalidData as `ToolRows.read`, and for a "reference to no earlier
        call", or to a field that it does not return."""
        calls = [Call(call["name"], call["arguments"]) for call in written["calls"]]
        if not (request := written["request"].strip()):
            raise InvalidData("no request")
        if (reason := "no calls" if not calls else refused(calls, TOOLS) or _dangling(calls)) is not None:
            raise InvalidData(reason)
        return _stated(request, [calls])

    def _rows(self, part: str) -> Iterator[tuple[str, Row]]:
        if self._folder is None:
            yield from self._hub.rows(part)
        elif (path := self._folder / f"{part}.json").is_file():
            yield from ((f"{path}, line {number}", row) for number, row in json_lines(path))
        else:
            yield from Folder(self._folder).rows(part)

    @staticmethod
    def _problem(where: str, row: Row) -> Problem:
        request = row.get("user_request")
        if not isinstance(request, str) or not isinstance(row.get("plan_str"), str):
            raise InvalidData(f"{where}: a row needs 'user_request' and 'plan_str', both texts.")
        plans = [_literal(where, "plan_str", row["plan_str"])]
        if row.get("alt_plans_str"):  # the column is empty, or not there, for most
            plans += _literal(where, "alt_plans_str", row["alt_plans_str"])
        return _stated(request.strip(), [_plan(where, plan) for plan in plans])


def _stated(request: str, plans: Sequence[Plan]) -> Problem:
    kinds = {KINDS[call.name] for call in plans[0]}
    data: list[JsonValue] = [[{"name": call.name, "arguments": call.arguments} for call in plan] for plan in plans]
    return Problem(
        prompt=_ASKED.model_copy(update={"text": request + INSTRUCTION}),
        answer=program(plans[0]),
        skill=" and ".join(kind for kind in _ORDER if kind in kinds),
        data={"plans": data},
    )


def _plans(problem: Problem) -> list[Plan]:
    plans: Any = problem.data.get("plans", [])
    return [[Call(call["name"], call["arguments"]) for call in plan] for plan in plans]


def _literal(where: str, column: str, text: Any) -> Any:
    """The list that a text writes down, in JSON or as Python's literals; nothing is evaluated."""
    try:
        found = json.loads(text)
    except (ValueError, TypeError):
        try:
            found = ast.literal_eval(text)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
            raise InvalidData(f"{where}: '{column}' is not the text of a list ({str(text)[:60]!r}).") from error
    if not isinstance(found, list):
        raise InvalidData(f"{where}: '{column}' is not the text of a list ({str(text)[:60]!r}).")
    return found


def _plan(where: str, nodes: Any) -> Plan:
    """The calls of a plan `[{"id", "name", "args"}, …]`, whose references then count places, not ids."""
    try:
        places = {str(node["id"]): place for place, node in enumerate(nodes)}
        renumber = lambda match: f"<node-{places[match[1]]}>" + (f".{match[2]}" if match[2] else "")  # noqa: E731
        plan = [
            Call(
                node["name"].replace(" ", "_"),
                {k: _NODE.sub(renumber, v) if isinstance(v, str) else v for k, v in (node.get("args") or {}).items()},
            )
            for node in nodes
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise InvalidData(f"{where}: a plan is a list of calls with id, name and args ({error!r:.80}).") from error
    if not plan or (unknown := next((call.name for call in plan if call.name not in KINDS), None)) is not None:
        raise InvalidData(f"{where}: a plan calls {unknown if plan else 'nothing'}; it must call some of the 33 tools.")
    return plan


def _dangling(calls: Plan) -> str | None:
    for place, call in enumerate(calls):
        for node, field in _edges(call.arguments):
            if node >= place:
                return "reference to no earlier call"
            if field not in FIELDS[calls[node].name]:
                return "reference to a field that is not returned"
    return None


def _edges(value: Any) -> list[tuple[int, str]]:
    """What a value takes from earlier calls: (place, field), the field "" where it takes all."""
    return [(int(node), field) for node, field in _NODE.findall(json.dumps(value, ensure_ascii=False))]


def _same_flow(plan: Plan, calls: Plan) -> bool:
    def agrees(wanted: Any, given: Any) -> bool:
        a, b = sorted(set(_edges(wanted))), sorted(set(_edges(given)))
        return len(a) == len(b) and all(x[0] == y[0] and (x[1] == y[1] or not y[1]) for x, y in zip(a, b, strict=True))

    return all(
        call.arguments.keys() == wanted.arguments.keys()
        and all(agrees(value, call.arguments[key]) for key, value in wanted.arguments.items())
        for wanted, call in zip(plan, calls, strict=True)
    )


def program(plan: Plan) -> str:
    """A plan as the program that a student learns to write."""
    return "\n".join(
        f"output{place} = {call.name}({', '.join(f'{key}={_said(value)}' for key, value in call.arguments.items())})"
        for place, call in enumerate(plan)
    )


def _said(value: Any) -> str:
    if not isinstance(value, str):
        return repr(value)
    if match := _NODE.fullmatch(value):
        return f"output{match[1]}['{match[2]}']" if match[2] else f"output{match[1]}"
    if not _NODE.search(value):
        return json.dumps(value, ensure_ascii=False)
    braced = json.dumps(value.replace("{", "{{").replace("}", "}}"), ensure_ascii=False)
    return "f" + _NODE.sub(lambda m: f"{{output{m[1]}['{m[2]}']}}" if m[2] else f"{{output{m[1]}}}", braced)
