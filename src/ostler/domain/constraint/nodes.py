"""Python syntax trees, made without text: what rules are compiled to."""

import ast
from collections.abc import Callable, Iterable, Mapping
from typing import Any

_OPERATORS: dict[str, type[ast.cmpop]] = {
    "==": ast.Eq,
    "!=": ast.NotEq,
    "<": ast.Lt,
    "<=": ast.LtE,
    ">": ast.Gt,
    ">=": ast.GtE,
    "in": ast.In,
    "is": ast.Is,
    "is not": ast.IsNot,
}
_CALCULATIONS: dict[str, type[ast.operator]] = {"+": ast.Add, "-": ast.Sub, "*": ast.Mult, "/": ast.Div}


def load(name: str) -> ast.expr:
    """The value of a variable."""
    return ast.Name(name, ast.Load())


def constant(value: Any) -> ast.expr:
    """A literal: a text, a number, a truth value, or a tuple or frozen set of them."""
    return ast.Constant(value)


def attribute(of: ast.expr, name: str) -> ast.expr:
    """`of.name`."""
    return ast.Attribute(of, name, ast.Load())


def item(of: ast.expr, key: str | int) -> ast.expr:
    """`of[key]`."""
    return ast.Subscript(of, ast.Constant(key), ast.Load())


def call(function: ast.expr, *arguments: ast.expr) -> ast.expr:
    """`function(arguments)`."""
    return ast.Call(function, list(arguments), [])


def compare(left: ast.expr, operator: str, right: ast.expr) -> ast.expr:
    """`left operator right`."""
    return ast.Compare(left, [_OPERATORS[operator]()], [right])


def calculate(left: ast.expr, operator: str, right: ast.expr) -> ast.expr:
    """`left operator right` of two quantities."""
    return ast.BinOp(left, _CALCULATIONS[operator](), right)


def negative(operand: ast.expr) -> ast.expr:
    """`-operand`."""
    return ast.UnaryOp(ast.USub(), operand)


def negated(operand: ast.expr) -> ast.expr:
    """`not operand`."""
    return ast.UnaryOp(ast.Not(), operand)


def all_of(parts: list[ast.expr]) -> ast.expr:
    """Every part, from the left, as long as they hold."""
    return parts[0] if len(parts) == 1 else ast.BoolOp(ast.And(), parts)


def any_of(parts: list[ast.expr]) -> ast.expr:
    """Any part, from the left, until one holds."""
    return parts[0] if len(parts) == 1 else ast.BoolOp(ast.Or(), parts)


def choose(test: ast.expr, then: ast.expr, otherwise: ast.expr) -> ast.expr:
    """`then if test else otherwise`."""
    return ast.IfExp(test, then, otherwise)


def assign(name: str, value: ast.expr) -> ast.stmt:
    """`name = value`."""
    return ast.Assign([ast.Name(name, ast.Store())], value)


def when(test: ast.expr, body: list[ast.stmt]) -> ast.stmt:
    """`if test: body`."""
    return ast.If(test, body, [])


def give(value: ast.expr) -> ast.stmt:
    """`return value`."""
    return ast.Return(value)


def unless_it_fails(body: list[ast.stmt], otherwise: list[ast.stmt]) -> ast.stmt:
    """`try: body`, and whatever is raised: `otherwise`."""
    handler = ast.ExceptHandler(load("Exception"), None, otherwise)
    return ast.Try(body, [handler], [], [])


def variables(node: ast.AST) -> set[str]:
    """The names of all variables in a tree."""
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}


def function(parameters: Iterable[str], body: list[ast.stmt], names: Mapping[str, Any]) -> Callable[..., Any]:
    """A function of these parameters, which sees these names and nothing else."""
    arguments = ast.arguments([], [ast.arg(name) for name in parameters], None, [], [], None, [])
    definition = ast.FunctionDef("rules", arguments, body, [])
    if "type_params" in ast.FunctionDef._fields:
        definition.type_params = []  # type: ignore[attr-defined, unused-ignore]
    module = ast.fix_missing_locations(ast.Module([definition], []))
    space: dict[str, Any] = {**names, "__builtins__": {}}
    exec(compile(module, "<rules>", "exec"), space)
    made: Callable[..., Any] = space["rules"]
    return made
