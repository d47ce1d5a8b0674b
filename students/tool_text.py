"""Tools as text, for models whose template has no place for them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from dataenv.errors import InvalidData

_SHORT = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "object": "dict", "array": "list"}
_DEEPEST = 6


def tool_text(tools: Sequence[Mapping[str, Any]]) -> str:
    """The tools' signatures, one a line, in few characters:

        get_weather(city:str, unit?:"c"|"f"="c"): What the weather is.
          city: Town and country
        count(words:list[str])

    A parameter that may be left out has a question mark; `=` gives its default. Descriptions of tools and parameters
    follow where there are any; those of fields within a parameter are left out. A part of a schema that has no short
    form stands as JSON. Raises InvalidData for a tool without a name.
    """
    return "\n".join(line for number, tool in enumerate(tools, 1) for line in _lines(number, tool))


def _lines(number: int, tool: Mapping[str, Any]) -> list[str]:
    inner = tool.get("function", tool)
    name = inner.get("name") if isinstance(inner, Mapping) else None
    if not isinstance(name, str) or not name:
        raise InvalidData(f"Tool {number} of a prompt has no name: give it one, a text, as 'name'.")
    parameters = inner.get("parameters") or {}
    head = f"{name}({_fields(parameters, 0)})"
    about = inner.get("description")
    said = [(key, p.get("description")) for key, p in _properties(parameters).items() if isinstance(p, Mapping)]
    return [f"{head}: {about}" if about else head, *(f"  {key}: {text}" for key, text in said if text)]


def _properties(schema: Any) -> Mapping[str, Any]:
    found = schema.get("properties") if isinstance(schema, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _fields(schema: Mapping[str, Any], depth: int) -> str:
    required = schema.get("required") or () if isinstance(schema, Mapping) else ()
    fields = []
    for name, part in _properties(schema).items():
        kind = _kind(part, depth + 1)
        default = f"={_json(part['default'])}" if isinstance(part, Mapping) and "default" in part else ""
        fields.append(f"{name}{'' if name in required else '?'}{':' * bool(kind)}{kind}{default}")
    return ", ".join(fields)


def _kind(schema: Any, depth: int) -> str:
    if not isinstance(schema, Mapping) or depth > _DEEPEST:
        return _json(schema)
    if isinstance(schema.get("enum"), Sequence):
        return "|".join(map(_json, schema["enum"]))
    kind = schema.get("type")
    if isinstance(kind, str):
        items = f"[{_kind(schema['items'], depth + 1)}]" if schema.get("items") else ""
        return f"{_SHORT.get(kind, kind)}{items}" + (f"{{{_fields(schema, depth)}}}" if _properties(schema) else "")
    rest = {key: value for key, value in schema.items() if key not in ("description", "default", "title")}
    return _json(rest) if rest else ""


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
