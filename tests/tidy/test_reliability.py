"""The page on reliability tells of every fault, and of tests that there are."""

import ast
import re

from tests.faults.rows import ROWS
from tests.tidy.rules import ROOT

PAGE = (ROOT / "docs/reference/reliability.md").read_text("utf-8")
LINK = re.compile(r"\(\.\./\.\./(tests/[\w/]+\.py)\) `(\w+)` \| (\w+)")


def test_every_fault_has_a_test_or_a_reason_on_the_page() -> None:
    assert [row.number for row in ROWS] == list(range(1, 34))
    lines = PAGE.splitlines()
    for row in ROWS:
        (line,) = [line for line in lines if line.startswith(f"| {row.number} | ")]
        assert LINK.search(line) or "not tested: " in line, f"row {row.number}"


def test_every_test_on_the_page_is_there_and_has_passed() -> None:
    found = LINK.findall(PAGE)
    assert len(found) > 33
    for path, name, result in found:
        tree = ast.parse((ROOT / path).read_text("utf-8"))
        names = {
            node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        }
        assert name in names, f"{path} has no {name}"
        assert result == "passed", f"{name} {result}"


def test_every_test_that_is_said_to_show_what_holds_is_on_the_page() -> None:
    told = {f"{path}::{name}" for path, name, _ in LINK.findall(PAGE)}
    assert {test for row in ROWS for test in row.tests} <= told
    marked = re.compile(r"@pytest\.mark\.fault\([\d, ]+\)\n(?:@.*\n)*(?:async def|def|class) (\w+)")
    for path in [
        *sorted((ROOT / "tests/faults").glob("test_*.py")),
        ROOT / "tests/adapters/store/test_postgres_faults.py",
    ]:
        for name in marked.findall(path.read_text("utf-8")):
            assert f"{path.relative_to(ROOT)}::{name}" in told, "run `make reliability`"
