"""Rules of style that a machine can decide, each a function from one source file to the problems in it."""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath
from typing import NamedTuple

ROOT = Path(__file__).parents[2]

MODULE_LINES_MAX = 600
FUNCTION_LINES_MAX = 70
CONSTRUCTOR_PARAMETERS_MAX = 8
PURE = ("src/ostler/kernel/", "src/ostler/domain/", "src/ostler/views/", "src/ostler/ports.py")
WORLDLY_CALLS = {
    "open",
    "input",
    "datetime.date.today",
    "datetime.datetime.now",
    "datetime.datetime.today",
    "datetime.datetime.utcnow",
}
EXCUSES = {"pytest.importorskip", "pytest.mark.xfail", "pytest.xfail"}
SKIPS = {"pytest.mark.skip", "pytest.mark.skipif", "pytest.skip"}
SERVICES = re.compile(
    r"\b(bubblewrap|bwrap|command|docker|kafka|libfaketime|nats|ollama|pgbouncer|postgres(ql)?|redis|root|sandbox|server)\b",
    re.IGNORECASE,
)
SAYS_THAT_IT_CHECKS = re.compile(
    r"(assert|check|eventually|expect|then|until|validate|verify)(_|$)|(raises|warns|fail)$"
)
SENTENCE = re.compile(r"test(_[a-z0-9]+){3,}")
HOW_IT_IS_BUILT = (
    (re.compile(r"\bissue\s+#?\d", re.IGNORECASE), "the number of an issue"),
    (re.compile(r"\bsessions? of work\b", re.IGNORECASE), "how the work is organised"),
    (re.compile(r"(?<![\w.~-])/(?:work|root|home/\w+)/"), "a path of somebody's machine"),
)

Function = ast.FunctionDef | ast.AsyncFunctionDef
Problem = tuple[int, str]
"""A line number and what is wrong there."""


class Source(NamedTuple):
    """A Python file: its path from the root of the project, its text and its syntax tree."""

    path: str
    text: str
    tree: ast.Module


Rule = Callable[[Source], Iterator[Problem]]


def parse(path: str, text: str) -> Source:
    return Source(path, text, ast.parse(text))


def sources(*folders: str) -> list[Source]:
    """Every Python file under these folders of the project."""
    found = (path for folder in folders for path in sorted((ROOT / folder).rglob("*.py")))
    return [parse(path.relative_to(ROOT).as_posix(), path.read_text("utf-8")) for path in found]


# Of all code


def modules_and_functions_fit_the_mind(source: Source) -> Iterator[Problem]:
    lines = source.text.count("\n")
    if lines > MODULE_LINES_MAX:
        yield 1, f"{lines} lines in one module, at most {MODULE_LINES_MAX}"
    for function in _functions(source.tree):
        lines = (function.end_lineno or function.lineno) - function.lineno + 1
        if lines > FUNCTION_LINES_MAX:
            yield function.lineno, f"{lines} lines in {function.name}, at most {FUNCTION_LINES_MAX}"


def constructors_are_small(source: Source) -> Iterator[Problem]:
    for function in _functions(source.tree):
        arguments = function.args
        count = len(arguments.posonlyargs) + len(arguments.args) + len(arguments.kwonlyargs) - 1
        if function.name == "__init__" and count > CONSTRUCTOR_PARAMETERS_MAX:
            yield function.lineno, f"a constructor of {count} parameters, at most {CONSTRUCTOR_PARAMETERS_MAX}"


# Of the product


def our_own_imports_are_at_the_top(source: Source) -> Iterator[Problem]:
    for function in _functions(source.tree):
        for node in ast.walk(function):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = ["ostler" if node.level else node.module or ""]
            else:
                continue
            if any(name.partition(".")[0] == "ostler" for name in names):
                yield node.lineno, f"{function.name} imports a part of ostler; imports of our own stand at the top"


def the_public_is_documented(source: Source) -> Iterator[Problem]:
    if Path(source.path).stem.startswith("_") and not source.path.endswith("__init__.py"):
        return
    documented = [source.tree, *(node for node in source.tree.body if isinstance(node, Function | ast.ClassDef))]
    for node in documented:
        name = "this module" if isinstance(node, ast.Module) else node.name
        if name.startswith("_") or _is_overload(node):
            continue
        line = 1 if isinstance(node, ast.Module) else node.lineno
        first = (ast.get_docstring(node) or "").partition("\n\n")[0].strip()
        if not first:
            yield line, f"{name} has no docstring"
        elif not re.search(r"[.:?!…][)`]*$", first):
            yield line, f"the docstring of {name} does not begin with a sentence"


def nobody_sleeps_or_leaves_stubs(source: Source) -> Iterator[Problem]:
    for node, name in _names(source.tree):
        if name == "time.sleep":
            yield node.lineno, "time.sleep holds a whole thread; wait on a condition or a clock"
        if name == "NotImplementedError":
            yield node.lineno, "a stub; build it whole or leave it out"


def the_inner_rings_touch_nothing(source: Source) -> Iterator[Problem]:
    if source.path.startswith(PURE):
        for node, name in _names(source.tree):
            if name in WORLDLY_CALLS:
                yield node.lineno, f"{name} in a pure ring; time and content arrive inside commands"


# Of tests


def tests_wait_on_conditions(source: Source) -> Iterator[Problem]:
    """In a loop that asks again and again, a test may rest. What plays the world, and is no test, may take its time."""
    if not PurePath(source.path).name.startswith("test_"):
        return
    names = dict(_names(source.tree))
    zero = {
        call.func
        for call in ast.walk(source.tree)
        if isinstance(call, ast.Call) and [ast.dump(argument) for argument in call.args] == ["Constant(value=0)"]
    }
    asking = {node for loop in ast.walk(source.tree) if isinstance(loop, ast.While) for node in ast.walk(loop)}
    for node, name in names.items():
        gives_way = node in zero and name != "time.sleep"
        if name in ("time.sleep", "asyncio.sleep", "anyio.sleep") and not (gives_way or node in asking):
            yield node.lineno, f"{name} in a test; wait on a condition, or for ever on an event that never comes"


def tests_check_something(source: Source) -> Iterator[Problem]:
    functions = list(_functions(source.tree))
    called = {id(function): _called(function) for function in functions}
    checking = {
        function.name
        for function in functions
        if any(isinstance(node, ast.Assert) for node in ast.walk(function))
        or any(SAYS_THAT_IT_CHECKS.match(name) for name in called[id(function)])
    }
    grown = -1
    while grown != len(checking):
        grown = len(checking)
        checking |= {function.name for function in functions if called[id(function)] & checking}
    for function in functions:
        if function.name.startswith("test_") and function.name not in checking:
            yield function.lineno, f"{function.name} checks nothing, so it cannot fail"


def names_of_tests_are_sentences(source: Source) -> Iterator[Problem]:
    for function in _functions(source.tree):
        if function.name.startswith("test_") and not SENTENCE.fullmatch(function.name):
            yield function.lineno, f"{function.name} does not say what must stay true"


def only_a_missing_service_skips(source: Source) -> Iterator[Problem]:
    reasons = {call.func: _reason(call) for call in ast.walk(source.tree) if isinstance(call, ast.Call)}
    for node, name in _names(source.tree):
        if name in EXCUSES:
            yield node.lineno, f"{name} hides a failure"
        elif name in SKIPS and not SERVICES.search(reasons.get(node, "")):
            yield node.lineno, f"{name} without a reason that names a missing service"


# Of every text


def texts_speak_of_the_project_alone(text: str) -> Iterator[Problem]:
    for number, line in enumerate(text.splitlines(), 1):
        for pattern, what in HOW_IT_IS_BUILT:
            if found := pattern.search(line):
                yield number, f"{found.group().strip()!r} is {what}"


CODE: tuple[Rule, ...] = (modules_and_functions_fit_the_mind, constructors_are_small)
PRODUCT: tuple[Rule, ...] = (
    our_own_imports_are_at_the_top,
    the_public_is_documented,
    nobody_sleeps_or_leaves_stubs,
    the_inner_rings_touch_nothing,
)
TESTS: tuple[Rule, ...] = (
    tests_wait_on_conditions,
    tests_check_something,
    names_of_tests_are_sentences,
    only_a_missing_service_skips,
)


def _functions(tree: ast.AST) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def _names(tree: ast.Module) -> Iterator[tuple[ast.expr, str]]:
    """Every dotted name that is used, spelled in full: `sleep` is `time.sleep` after `from time import sleep`."""
    meant: dict[str | None, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            meant |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom):
            meant |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
            first, dot, rest = _dotted(node).partition(".")
            yield node, meant.get(first, first) + dot + rest


def _is_overload(node: ast.AST) -> bool:
    return isinstance(node, Function) and any(_dotted(by).endswith("overload") for by in node.decorator_list)


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return "?"


def _called(function: Function) -> set[str]:
    """The last parts of the names of everything that is called in a function, or entered by `with`."""
    calls = (node.func for node in ast.walk(function) if isinstance(node, ast.Call))
    return {_dotted(called).rpartition(".")[2] for called in calls}


def _reason(call: ast.Call) -> str:
    """The literal text that is given as the reason, as first argument or by name."""
    given = [keyword.value for keyword in call.keywords if keyword.arg == "reason"] or call.args[:1]
    return "".join(str(node.value) for reason in given for node in ast.walk(reason) if isinstance(node, ast.Constant))
