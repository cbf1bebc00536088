"""Python source as something to search in: its functions, the names they mention, positions in the text."""

import ast
import sys
from collections.abc import Iterator
from typing import TypeGuard

import msgspec

MODULE = "(module)"
"""The name that the top level of a module goes by."""

AnyFunction = ast.FunctionDef | ast.AsyncFunctionDef


class Source:
    """One parsed file. `path` is relative to the workspace. Raises SyntaxError if `text` is not Python."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.text = text
        self.tree = ast.parse(text)
        self.standard = _standard_names(self.tree)
        self._lines = [line + "\n" for line in text.split("\n")]  # as the parser counts them, unlike splitlines
        self._starts = [0]
        for line in self._lines:
            self._starts.append(self._starts[-1] + len(line))

    def offset(self, line: int, column: int) -> int:
        """Where a position of `ast` (lines from 1, columns in UTF-8 bytes) is in the text."""
        before = self._lines[line - 1].encode()[:column].decode()
        return self._starts[line - 1] + len(before)

    def span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        end_line, end_column = node.end_lineno or node.lineno, node.end_col_offset or node.col_offset
        return self.offset(node.lineno, node.col_offset), self.offset(end_line, end_column)

    def snippet(self, node: ast.expr | ast.stmt) -> str:
        start, end = self.span(node)
        return self.text[start:end]

    def line_at(self, offset: int) -> int:
        return self.text.count("\n", 0, offset) + 1

    def whole_lines(self, first: int, last: int) -> tuple[int, int]:
        """The offsets of lines `first` to `last`, cut to the file, without the last line break."""
        start = self._starts[max(first, 1) - 1]
        return start, self._starts[min(last, len(self._lines))] - 1


class Function(msgspec.Struct, frozen=True, eq=False):
    """A function, or the top level of a class or module (the code that runs on import).

    `mentions` are the names in its code: what it may call, in the widest sense (properties, callbacks).
    """

    source: Source
    name: str
    owner: str
    node: AnyFunction | ast.ClassDef | ast.Module
    mentions: frozenset[str]

    @property
    def title(self) -> str:
        return f"{self.owner}.{self.name}" if self.owner else self.name

    @property
    def text(self) -> str:
        return self.source.text if isinstance(self.node, ast.Module) else self.source.snippet(self.node)

    def holds(self, line: int) -> bool:
        if isinstance(self.node, ast.Module):
            return False
        return self.node.lineno <= line <= (self.node.end_lineno or self.node.lineno)

    def nodes(self) -> Iterator[ast.AST]:
        """The nodes of its own code, in order."""
        return _own_nodes(self.node)


def functions(source: Source) -> list[Function]:
    """Every function of the file, methods included, and the top levels of classes and of the module itself."""
    found: list[Function] = []
    _collect(source, source.tree, "", found)
    return found


def defined_names(source: Source) -> set[str]:
    """The names of its functions and classes, and of attributes that it assigns or declares."""
    names: set[str] = set()
    for node in ast.walk(source.tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.Attribute(attr=name, ctx=ast.Store()) | ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
            case _:
                pass
    return names


def _collect(source: Source, node: ast.Module | ast.ClassDef, owner: str, found: list[Function]) -> None:
    name = node.name if isinstance(node, ast.ClassDef) else MODULE
    found.append(Function(source, name, owner, node, _mentions(node, source.standard)))
    for inner in node.body:
        if _is_function(inner):
            owning = node.name if isinstance(node, ast.ClassDef) else ""
            found.append(Function(source, inner.name, owning, inner, _mentions(inner, source.standard)))
        elif isinstance(inner, ast.ClassDef):
            _collect(source, inner, node.name if isinstance(node, ast.ClassDef) else "", found)


def _is_function(node: ast.AST) -> TypeGuard[AnyFunction]:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


def _own_nodes(node: AnyFunction | ast.ClassDef | ast.Module) -> Iterator[ast.AST]:
    """The code of this function, class or module without that of the functions and classes that are listed as such.

    Without annotations and the insides of f-strings as well, whose positions are not reliable before Python 3.12.
    """
    if isinstance(node, ast.Module | ast.ClassDef):
        stack: list[ast.AST] = [inner for inner in node.body if not isinstance(inner, AnyFunction | ast.ClassDef)]
    else:
        stack = [*node.body, *node.args.defaults, *filter(None, node.args.kw_defaults)]
    stack.reverse()
    while stack:
        inner = stack.pop()
        yield inner
        if isinstance(inner, ast.JoinedStr):
            continue
        children = [child for name, child in _children(inner) if name not in ("annotation", "returns")]
        stack.extend(reversed(children))


def _children(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    for name, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else (value,):
            if isinstance(child, ast.AST):
                yield name, child


def _mentions(node: AnyFunction | ast.ClassDef | ast.Module, standard: frozenset[str]) -> frozenset[str]:
    """The names that the code uses and that may be functions of the project: not its own variables, nor `standard`."""
    used: set[str] = set()
    bound: set[str] = set()
    for inner in _own_nodes(node):
        match inner:
            case ast.Name(id=name, ctx=ast.Load()):
                used.add(name)
            case ast.Name(id=name) | ast.arg(arg=name):
                bound.add(name)
            case ast.Attribute(value=ast.Name(id=name)) if name in standard:
                pass
            case ast.Attribute(attr=name):
                used.add(f".{name}")
            case _:
                pass
    if _is_function(node):
        bound.update(argument.arg for argument in ast.walk(node.args) if isinstance(argument, ast.arg))
    return frozenset(name.lstrip(".") for name in used - bound - standard)


def _standard_names(tree: ast.Module) -> frozenset[str]:
    """The names that the file imports from the standard library."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported = [(alias.asname or alias.name.partition(".")[0], alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            imported = [(alias.asname or alias.name, node.module or "") for alias in node.names]
        else:
            continue
        names.update(name for name, module in imported if module.partition(".")[0] in sys.stdlib_module_names)
    return frozenset(names)
