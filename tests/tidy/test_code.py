"""The code keeps the rules of style that a machine can decide."""

from collections.abc import Iterable
from functools import cache

import pytest

from tests.tidy import rules
from tests.tidy.rules import ROOT, Problem, Rule, Source

FOLDERS = ("src", "tests", "docs", "examples", "benchmarks", "scripts", ".ci")
BINARY = {".db", ".gz", ".ico", ".png", ".pyc", ".whl"}


@cache
def code(*folders: str) -> list[Source]:
    found = rules.sources(*folders)
    assert found, f"no Python files in {folders}: the rules would hold of nothing"
    return found


def check(problems: Iterable[tuple[str, Iterable[Problem]]]) -> None:
    """Fails with a line for each problem, which an editor can follow."""
    lines = [f"{path}:{line}: {what}" for path, of_file in problems for line, what in of_file]
    if lines:
        pytest.fail("\n".join(lines), pytrace=False)


def named(rule: Rule) -> str:
    return rule.__name__


@pytest.mark.parametrize("rule", rules.CODE, ids=named)
def test_all_code_keeps_the_rule(rule: Rule) -> None:
    check((source.path, rule(source)) for source in code("src", "tests"))


@pytest.mark.parametrize("rule", rules.PRODUCT, ids=named)
def test_the_product_keeps_the_rule(rule: Rule) -> None:
    check((source.path, rule(source)) for source in code("src"))


@pytest.mark.parametrize("rule", rules.TESTS, ids=named)
def test_the_tests_keep_the_rule(rule: Rule) -> None:
    check((source.path, rule(source)) for source in code("tests", "src/ostler/testing"))


def test_no_text_speaks_of_how_it_is_built() -> None:
    files = [*ROOT.iterdir(), *(path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*")))]
    texts = {path: path.read_text("utf-8") for path in files if path.is_file() and path.suffix not in BINARY}
    assert ROOT / "Makefile" in texts
    check((str(path.relative_to(ROOT)), rules.texts_speak_of_the_project_alone(texts[path])) for path in texts)
