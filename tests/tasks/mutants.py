"""Mutants of a Python function, each wrong in one way."""

import ast
import copy

SWAP = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Mod: ast.Mult, ast.FloorDiv: ast.Mult, ast.Div: ast.Mult,
    ast.Pow: ast.Mult, ast.BitXor: ast.BitAnd, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
    ast.Lt: ast.GtE, ast.GtE: ast.Lt, ast.Gt: ast.LtE, ast.LtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip


def function_of(tree, name):
    return next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name)


def wrong_operators(source, entry):
    """One source for each operator of the function, with that one swapped."""
    count = sum(isinstance(node, ast.BinOp | ast.Compare) for node in ast.walk(function_of(ast.parse(source), entry)))
    for i in range(count):
        tree = ast.parse(source)
        nodes = [node for node in ast.walk(function_of(tree, entry)) if isinstance(node, ast.BinOp | ast.Compare)]
        if isinstance(nodes[i], ast.BinOp):
            if type(nodes[i].op) not in SWAP:
                continue
            nodes[i].op = SWAP[type(nodes[i].op)]()
        else:
            if type(nodes[i].ops[0]) not in SWAP:
                continue
            nodes[i].ops[0] = SWAP[type(nodes[i].ops[0])]()
        yield ast.unparse(tree)


def off_by_one(source, entry):
    """What is returned is wrong by one: a number by one, a text or list by one item, a truth value by its opposite."""
    after = (
        "\n\ndef _off(v):\n    if isinstance(v, bool): return not v\n"
        "    if isinstance(v, (int, float, complex)): return v + 1\n"
        "    if isinstance(v, str): return v + 'x'\n    if isinstance(v, list): return v + [1]\n"
        "    if isinstance(v, tuple): return v + (1,)\n    if isinstance(v, set): return v ^ {'x'}\n"
        "    if isinstance(v, dict): return {**v, 'x': 1}\n    return 1 if v is None else None\n"
        f"\n_right = {entry}\ndef {entry}(*args, **named):\n    return _off(_right(*args, **named))\n"
    )
    return source + after


def replaced_body(source, entry, body):
    tree = copy.deepcopy(ast.parse(source))
    function_of(tree, entry).body = ast.parse(body).body
    return ast.unparse(tree)


def certain(source, entry):
    """Mutants that no test may pass: name -> source."""
    return {
        "off by one": off_by_one(source, entry),
        "empty body": replaced_body(source, entry, "pass"),
        "sys.exit": replaced_body(source, entry, "import sys\nsys.exit(0)"),
        "os._exit": replaced_body(source, entry, "import os\nos._exit(0)"),
        "not finished": source.rpartition("\n")[0] + "\n    (",
    }


def endless(source, entry):
    return replaced_body(source, entry, "while True:\n    pass")
