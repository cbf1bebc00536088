"""Small changes to Python code that undo the mistakes people make: wrong comparisons, off by one, and/or, min/max.

Every change is one replacement of a few characters at a place that `ast` names, so that layout and comments stay.
"""

import ast
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence

import msgspec

from ostler.adapters.providers.repair.source import Source
from ostler.adapters.providers.repair.suspects import Suspect

CROWDING = 0.85


class Mutation(msgspec.Struct, frozen=True):
    """One candidate change: `old` and `new` are whole lines, each unique in its version of the file."""

    path: str
    line: int
    function: str
    before: str
    after: str
    old: str
    new: str
    score: float

    @property
    def title(self) -> str:
        return f"`{self.before}` to `{self.after}` in {self.function} ({self.path}:{self.line})"


class _Rewrite(msgspec.Struct, frozen=True):
    """Replace the text from `start` to `end`; `likelihood` is how often such a mistake is made, 0 to 1."""

    start: int
    end: int
    text: str
    likelihood: float
    shown: tuple[int, int]


_COMPARISONS: dict[type[ast.cmpop], tuple[str, tuple[tuple[str, float], ...]]] = {
    ast.Lt: ("<", (("<=", 1.0), (">", 0.5), (">=", 0.4))),
    ast.LtE: ("<=", (("<", 1.0), (">=", 0.5), (">", 0.4))),
    ast.Gt: (">", ((">=", 1.0), ("<", 0.5), ("<=", 0.4))),
    ast.GtE: (">=", ((">", 1.0), ("<=", 0.5), ("<", 0.4))),
    ast.Eq: ("==", (("!=", 0.6), (">=", 0.4), ("<=", 0.4))),
    ast.NotEq: ("!=", (("==", 0.6), (">", 0.3), ("<", 0.3))),
    ast.Is: ("is", (("is not", 0.5),)),
    ast.IsNot: ("is not", (("is", 0.5),)),
    ast.In: ("in", (("not in", 0.5),)),
    ast.NotIn: ("not in", (("in", 0.5),)),
}
_ARITHMETIC: dict[type[ast.operator], tuple[str, tuple[tuple[str, float], ...]]] = {
    ast.Add: ("+", (("-", 0.8),)),
    ast.Sub: ("-", (("+", 0.8),)),
    ast.Mult: ("*", (("/", 0.4), ("//", 0.35), ("+", 0.3))),
    ast.Div: ("/", (("*", 0.5), ("//", 0.5))),
    ast.FloorDiv: ("//", (("/", 0.5), ("%", 0.5), ("*", 0.3))),
    ast.Mod: ("%", (("//", 0.5),)),
    ast.BitAnd: ("&", (("|", 0.6),)),
    ast.BitOr: ("|", (("&", 0.6),)),
}
_TWINS = {
    one: other
    for pair in (
        ("min", "max"),
        ("any", "all"),
        ("floor", "ceil"),
        ("ljust", "rjust"),
        ("lstrip", "rstrip"),
        ("startswith", "endswith"),
        ("find", "rfind"),
        ("index", "rindex"),
        ("split", "rsplit"),
        ("partition", "rpartition"),
        ("upper", "lower"),
        ("removeprefix", "removesuffix"),
        ("bisect_left", "bisect_right"),
        ("union", "intersection"),
    )
    for one, other in (pair, pair[::-1])
}


def mutations(suspects: Sequence[Suspect]) -> list[Mutation]:
    """The candidate changes to all suspects, likeliest first, each once. Not all of them need be valid Python."""
    found: dict[tuple[str, str, str], Mutation] = {}
    for suspect in suspects:
        for rewrite in _rewrites(suspect):
            mutation = _as_mutation(suspect, rewrite)
            if mutation is not None:
                found.setdefault((mutation.path, mutation.old, mutation.new), mutation)
    return _spread(list(found.values()))


def _spread(candidates: list[Mutation]) -> list[Mutation]:
    """In order of their scores; the more of a line was tried already, the less the rest of it counts."""
    tried: Counter[tuple[str, int]] = Counter()
    worth: list[tuple[float, Mutation]] = []
    for mutation in sorted(candidates, key=lambda mutation: -mutation.score):
        place = mutation.path, mutation.line
        worth.append((mutation.score * CROWDING ** tried[place], mutation))
        tried[place] += 1
    return [mutation for _, mutation in sorted(worth, key=lambda pair: -pair[0])]


def _as_mutation(suspect: Suspect, rewrite: _Rewrite) -> Mutation | None:
    function, source = suspect.function, suspect.function.source
    text = source.text
    mutated = text[: rewrite.start] + rewrite.text + text[rewrite.end :]
    if mutated == text:
        return None
    first, last = source.line_at(rewrite.start), source.line_at(rewrite.end)
    start, end = source.whole_lines(first, last)
    while text.count(text[start:end]) > 1 or mutated.count(_replaced(text, start, end, rewrite)) > 1:
        first, last = first - 1, last + 1
        start, end = source.whole_lines(first, last)
    low, high = rewrite.shown
    line = source.line_at(rewrite.start)
    return Mutation(
        path=source.path,
        line=line,
        function=function.title,
        before=_brief(text[low:high]),
        after=_brief(text[low : rewrite.start] + rewrite.text + text[rewrite.end : high]),
        old=text[start:end],
        new=_replaced(text, start, end, rewrite),
        score=math.sqrt(suspect.suspicion) * rewrite.likelihood * (1.5 if line in suspect.lines else 1),
    )


def _replaced(text: str, start: int, end: int, rewrite: _Rewrite) -> str:
    return text[start : rewrite.start] + rewrite.text + text[rewrite.end : end]


def _brief(text: str) -> str:
    return " ".join(text.split())


def _rewrites(suspect: Suspect) -> Iterator[_Rewrite]:
    source = suspect.function.source
    for node in suspect.function.nodes():
        match node:
            case ast.Compare():
                yield from _comparison(source, node)
            case ast.BinOp():
                yield from _arithmetic(source, node)
            case ast.AugAssign():
                yield from _augmented(source, node)
            case ast.BoolOp():
                yield from _boolean(source, node)
            case ast.UnaryOp(op=ast.Not()):
                yield _whole(source, node, source.snippet(node.operand), 0.6)
            case ast.Constant():
                yield from _constant(source, node)
            case ast.Call():
                yield from _call(source, node)
            case ast.Slice():
                yield from _bounds(source, [node.lower, node.upper], 0.7)
            case ast.Subscript():
                yield from _ends(source, node)
            case ast.If() | ast.While() | ast.IfExp():
                yield from _condition(source, node)
            case ast.comprehension():
                for test in node.ifs:
                    yield from _negated(source, test, 0.3)
            case _:
                pass


def _comparison(source: Source, node: ast.Compare) -> Iterator[_Rewrite]:
    operands = [node.left, *node.comparators]
    for left, op, right in zip(operands, node.ops, operands[1:], strict=False):
        symbol, others = _COMPARISONS[type(op)]
        yield from _between(source, left, right, symbol, others, likelihood=_boundary_weight(node))


def _boundary_weight(node: ast.Compare) -> float:
    """Comparing with 0 or an empty thing is a habit that is rarely wrong."""
    ends = [node.left, *node.comparators]
    return 0.8 if any(isinstance(end, ast.Constant) and not end.value for end in ends) else 1.0


def _arithmetic(source: Source, node: ast.BinOp) -> Iterator[_Rewrite]:
    symbol, others = _ARITHMETIC.get(type(node.op), ("", ()))
    if not symbol or _is_text(node.left) or _is_text(node.right):
        return
    yield from _between(source, node.left, node.right, symbol, others, likelihood=1.0)
    if _is_one(node.right) and isinstance(node.op, ast.Add | ast.Sub):
        yield _whole(source, node, source.snippet(node.left), 0.9)


def _augmented(source: Source, node: ast.AugAssign) -> Iterator[_Rewrite]:
    symbol, others = _ARITHMETIC.get(type(node.op), ("", ()))
    if symbol and not _is_text(node.value):
        changed = tuple((f"{other}=", likelihood) for other, likelihood in others)
        yield from _between(source, node.target, node.value, f"{symbol}=", changed, likelihood=1.0)


def _boolean(source: Source, node: ast.BoolOp) -> Iterator[_Rewrite]:
    symbol, other = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
    for left, right in zip(node.values, node.values[1:], strict=False):
        yield from _between(source, left, right, symbol, ((other, 0.9),), likelihood=1.0)


def _between(
    source: Source,
    left: ast.expr,
    right: ast.expr,
    symbol: str,
    others: Sequence[tuple[str, float]],
    *,
    likelihood: float,
) -> Iterator[_Rewrite]:
    """Exchanges the operator between two operands. A gap with a comment in it is left alone."""
    gap_start, gap_end = source.span(left)[1], source.span(right)[0]
    gap = source.text[gap_start:gap_end]
    found = re.search(re.escape(symbol).replace(r"\ ", r"\s+"), gap)
    if found is None or "#" in gap:
        return
    start, end = gap_start + found.start(), gap_start + found.end()
    shown = source.span(left)[0], source.span(right)[1]
    for other, chance in others:
        yield _Rewrite(start, end, other, chance * likelihood, shown)


def _constant(source: Source, node: ast.Constant) -> Iterator[_Rewrite]:
    value = node.value
    if isinstance(value, bool):
        yield _whole(source, node, str(not value), 0.6)
    elif isinstance(value, int) and abs(value) <= 1000:
        yield _whole(source, node, str(value + 1), 0.5)
        yield _whole(source, node, str(value - 1), 0.5 if value else 0.25)


def _call(source: Source, node: ast.Call) -> Iterator[_Rewrite]:
    match node.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            pass
        case _:
            name = ""
    if name in _TWINS:
        end = source.span(node.func)[1]
        yield _Rewrite(end - len(name), end, _TWINS[name], 0.8, source.span(node))
    if name == "range":
        yield from _bounds(source, node.args[1:2] or node.args, 0.9)
    if (
        len(node.args) == 2
        and name not in ("min", "max")
        and not any(isinstance(argument, ast.Starred) for argument in node.args)
    ):
        (start, end), (other_start, other_end) = source.span(node.args[0]), source.span(node.args[1])
        first, gap, second = source.text[start:end], source.text[end:other_start], source.text[other_start:other_end]
        yield _Rewrite(start, other_end, second + gap + first, 0.3, source.span(node))


def _bounds(source: Source, bounds: Sequence[ast.expr | None], likelihood: float) -> Iterator[_Rewrite]:
    """Off by one at the end of a range or slice; bounds that are numbers or sums already change elsewhere."""
    for bound in bounds:
        if isinstance(bound, ast.Name | ast.Attribute | ast.Call | ast.Subscript):
            text = source.snippet(bound)
            yield _whole(source, bound, f"{text} + 1", likelihood)
            yield _whole(source, bound, f"{text} - 1", likelihood)


def _ends(source: Source, node: ast.Subscript) -> Iterator[_Rewrite]:
    """The first item for the last one, and the other way round."""
    match node.slice:
        case ast.Constant(value=0):
            yield _whole(source, node.slice, "-1", 0.7)
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=1)):
            yield _whole(source, node.slice, "0", 0.7)
        case _:
            pass


def _condition(source: Source, node: ast.If | ast.While | ast.IfExp) -> Iterator[_Rewrite]:
    if not isinstance(node.test, ast.Compare | ast.UnaryOp | ast.Constant):
        yield from _negated(source, node.test, 0.4)


def _negated(source: Source, test: ast.expr, likelihood: float) -> Iterator[_Rewrite]:
    text = source.snippet(test)
    is_simple = isinstance(test, ast.Name | ast.Attribute | ast.Call | ast.Subscript)
    if is_simple:
        yield _whole(source, test, f"not {text}", likelihood)
    elif isinstance(test, ast.BoolOp):
        yield _whole(source, test, f"not ({text})", likelihood)


def _whole(source: Source, node: ast.expr, text: str, likelihood: float) -> _Rewrite:
    start, end = source.span(node)
    return _Rewrite(start, end, text, likelihood, _surroundings(source, start, end))


def _surroundings(source: Source, start: int, end: int) -> tuple[int, int]:
    """The rest of the line, so that a lone number can be recognised in what is shown."""
    low, high = source.whole_lines(source.line_at(start), source.line_at(end))
    return low, high


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str | bytes))


def _is_one(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value == 1 and not isinstance(node.value, bool)
