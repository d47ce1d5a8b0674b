"""Calls made wrong, one way each: what a verifier of calls must refuse. Each takes the right calls and the allowed
values of the first of them, and gives wrong calls, or None where it does not apply."""

from dataenv.verifiers.tool_call import Call


def _with(calls, **arguments):
    first = calls[0]
    return [first._replace(arguments={**first.arguments, **arguments}), *calls[1:]]


def _first(calls):
    return next(iter(calls[0].arguments.items()), (None, None)) if calls else (None, None)


def missing_argument(calls, allowed):
    key, _ = _first(calls)
    rest = {k: v for k, v in calls[0].arguments.items() if k != key} if calls else {}
    return key and [calls[0]._replace(arguments=rest), *calls[1:]]


def unknown_argument(calls, allowed):
    return calls and _with(calls, no_such_argument=1)


def misspelt_argument(calls, allowed):
    key, _ = _first(calls)
    return key and [
        calls[0]._replace(arguments={f"{k}z" if k == key else k: v for k, v in calls[0].arguments.items()}),
        *calls[1:],
    ]


def wrong_type(calls, allowed):
    key, _ = _first(calls)
    kinds = {type(value) for value in allowed.get(key, ())} | (
        {int} if float in map(type, allowed.get(key, ())) else set()
    )
    others = [value for value in ("zzz", 98765, [98765], {"zzz": 1}) if type(value) not in kinds]
    return key and _with(calls, **{key: others[0]})


def number_in_quotes(calls, allowed):
    key, value = (
        next(((k, v) for k, v in calls[0].arguments.items() if type(v) is int), (None, None)) if calls else (0, 0)
    )
    return key and str(value) not in allowed[key] and _with(calls, **{key: str(value)})


def true_for_one(calls, allowed):
    key = next((k for k, v in calls[0].arguments.items() if type(v) is int and v in (0, 1)), None) if calls else None
    return key and _with(calls, **{key: bool(calls[0].arguments[key])})


def changed_value(calls, allowed):
    key, value = _first(calls)
    if isinstance(value, bool):
        return (not value) not in allowed[key] and _with(calls, **{key: not value})
    if isinstance(value, str):
        return _with(calls, **{key: f"{value}zzz"})
    if isinstance(value, int | float):
        return _with(calls, **{key: value + 98765})
    if isinstance(value, list):
        return _with(calls, **{key: [*value, "zzz"]})
    return isinstance(value, dict) and _with(calls, **{key: {**value, "zzz": 1}})


def list_cut_short(calls, allowed):
    found = [(k, v) for k, v in calls[0].arguments.items() if isinstance(v, list) and len(v) > 1] if calls else []
    return found and found[0][1][:-1] not in allowed[found[0][0]] and _with(calls, **{found[0][0]: found[0][1][:-1]})


def wrong_tool(calls, allowed):
    return calls and [calls[0]._replace(name=f"{calls[0].name}_all"), *calls[1:]]


def tool_in_capitals(calls, allowed):
    name = calls[0].name.swapcase() if calls else ""
    return calls and [calls[0]._replace(name=name), *calls[1:]]


def missing_call(calls, allowed):
    return calls and calls[:-1]


def duplicated_call(calls, allowed):
    return calls and [*calls, calls[0]]


def extra_call(calls, allowed):
    return [*calls, Call("one_more", {})]


def one_call_twice_for_two(calls, allowed):
    same = len(calls) > 1 and str(calls[0]).lower() == str(calls[1]).lower()
    return len(calls) > 1 and not same and [calls[0], calls[0], *calls[2:]]


OF_CALLS = [
    missing_argument, unknown_argument, misspelt_argument, wrong_type, number_in_quotes, true_for_one, changed_value,
    list_cut_short, wrong_tool, tool_in_capitals, missing_call, duplicated_call, extra_call, one_call_twice_for_two,
]  # fmt: skip

OF_TEXTS = {
    "prose": lambda text: "I would ask the tool for that.",
    "prose before": lambda text: f"Sure, here you are: {text}",
    "prose after": lambda text: f"{text} is what I would call.",
    "truncated": lambda text: text[: max(1, 2 * len(text) // 3)],
    "truncated by one": lambda text: text[:-1],
    "nothing": lambda text: "",
    "in a loop": lambda text: f"for i in range(2):\n    {text}",
    "in quotes": lambda text: repr(text),
    "in another call": lambda text: f"print({text})",
    "assigned away": lambda text: f"x, y = {text}",
    "a lone name": lambda text: "done",
    "an empty object": lambda text: "{}",
}
