"""Each rule catches what it is there for, and nothing else."""

import pytest

from tests.tidy import rules
from tests.tidy.rules import Rule, parse

LONG_FUNCTION = "def long():\n" + "    pass\n" * rules.FUNCTION_LINES_MAX
WIDE_CONSTRUCTOR = "class Wide:\n    def __init__(self, a, b, c, d, *, e, f, g, h, i): ...\n"

BROKEN: list[tuple[Rule, str]] = [
    (rules.modules_and_functions_fit_the_mind, "x = 1\n" * (rules.MODULE_LINES_MAX + 1)),
    (rules.modules_and_functions_fit_the_mind, LONG_FUNCTION),
    (rules.constructors_are_small, WIDE_CONSTRUCTOR),
    (rules.our_own_imports_are_at_the_top, "def f():\n    import ostler.app\n"),
    (rules.our_own_imports_are_at_the_top, "async def f():\n    from ostler.app import wire\n"),
    (rules.our_own_imports_are_at_the_top, "def f():\n    from . import wire\n"),
    (rules.the_public_is_documented, ""),
    (rules.the_public_is_documented, '"""A module."""\nclass Public: ...\n'),
    (rules.the_public_is_documented, '"""A module."""\nasync def public(): ...\n'),
    (rules.the_public_is_documented, '"""not a sentence"""\n'),
    (rules.nobody_sleeps_or_leaves_stubs, "import time\ntime.sleep(0)\n"),
    (rules.nobody_sleeps_or_leaves_stubs, "from time import sleep as pause\npause(0)\n"),
    (rules.nobody_sleeps_or_leaves_stubs, "raise NotImplementedError\n"),
    (rules.the_inner_rings_touch_nothing, "from datetime import datetime\ndatetime.now(None)\n"),
    (rules.the_inner_rings_touch_nothing, "open('x')\n"),
    (rules.tests_wait_on_conditions, "import time\ntime.sleep(0)\n"),
    (rules.tests_wait_on_conditions, "import asyncio\nasync def f(): await asyncio.sleep(0.1)\n"),
    (rules.tests_wait_on_conditions, "from asyncio import sleep\nasync def f(seconds): await sleep(seconds)\n"),
    (rules.tests_check_something, "def test_it_runs_without_an_error():\n    run()\n"),
    (rules.tests_check_something, "class TestIt:\n    async def test_it_runs(self):\n        await run()\n"),
    (rules.names_of_tests_are_sentences, "def test_append(): ...\n"),
    (rules.names_of_tests_are_sentences, "def test_append2(): ...\n"),
    (rules.only_a_missing_service_skips, "import pytest\n@pytest.mark.skip\ndef f(): ...\n"),
    (rules.only_a_missing_service_skips, "import pytest\npytest.skip('not today')\n"),
    (rules.only_a_missing_service_skips, "import pytest\npytest.skip('the signature is odd')\n"),
    (rules.only_a_missing_service_skips, "import pytest\npytest.mark.xfail(reason='bwrap')\n"),
    (rules.only_a_missing_service_skips, "from pytest import mark\nmark.skipif(True, reason='flaky')\n"),
]

KEPT: list[tuple[Rule, str]] = [
    (rules.modules_and_functions_fit_the_mind, "x = 1\n" * rules.MODULE_LINES_MAX),
    (rules.constructors_are_small, WIDE_CONSTRUCTOR.replace(", i)", ")")),
    (rules.our_own_imports_are_at_the_top, "from ostler.app import wire\ndef f():\n    import json\n"),
    (rules.the_public_is_documented, '"""A module: all there is."""\ndef _private(): ...\n'),
    (rules.the_public_is_documented, '"""A module."""\n@overload\ndef public(): ...\n'),
    (rules.nobody_sleeps_or_leaves_stubs, "import asyncio\nasync def f(): await asyncio.sleep(1)\n"),
    (rules.the_inner_rings_touch_nothing, "from datetime import datetime\ndatetime(1970, 1, 1)\n"),
    (rules.the_inner_rings_touch_nothing, "class State:\n    open: dict\nstate.open\n"),
    (rules.tests_wait_on_conditions, "import asyncio\nasync def f(): await asyncio.sleep(0)\n"),
    (rules.tests_wait_on_conditions, "import asyncio\nasync def f():\n    while g(): await asyncio.sleep(1)\n"),
    (rules.tests_check_something, "def test_it(): helper()\ndef helper(): inner()\ndef inner(): assert True\n"),
    (rules.tests_check_something, "def test_it():\n    with pytest.raises(ValueError): run()\n"),
    (rules.tests_check_something, "def test_it(): given().then(1)\n"),
    (rules.names_of_tests_are_sentences, "def test_a_stale_writer_is_refused(): ...\n"),
    (rules.only_a_missing_service_skips, "import pytest\npytest.skip('bubblewrap is not installed')\n"),
    (rules.only_a_missing_service_skips, "import pytest\npytest.mark.skipif(x, reason=f'no {x}: PostgreSQL')\n"),
]


def place_for(rule: Rule) -> str:
    """Where a rule is to hold."""
    return "tests/domain/test_example.py" if rule in rules.TESTS else "src/ostler/domain/example.py"


@pytest.mark.parametrize(("rule", "text"), BROKEN)
def test_a_rule_catches_what_breaks_it(rule: Rule, text: str) -> None:
    assert list(rule(parse(place_for(rule), text)))


@pytest.mark.parametrize(("rule", "text"), KEPT)
def test_a_rule_lets_pass_what_keeps_it(rule: Rule, text: str) -> None:
    assert list(rule(parse(place_for(rule), text))) == []


def test_every_rule_is_shown_to_be_breakable() -> None:
    assert {rule for rule, _ in BROKEN} == {*rules.CODE, *rules.PRODUCT, *rules.TESTS}


# In two pieces, because this file is read by the rule as well.
@pytest.mark.parametrize(
    "text", ["as iss" + "ue #12 asks", "/wo" + "rk/main", "cd /ro" + "ot/x", "a session of" + " work"]
)
def test_a_text_that_speaks_of_how_it_is_built_is_caught(text: str) -> None:
    assert list(rules.texts_speak_of_the_project_alone(text))


@pytest.mark.parametrize("text", ["file an issue", "~/work/notes", "a session works", "tests/work/", "/root"])
def test_a_text_that_speaks_of_the_project_passes(text: str) -> None:
    assert list(rules.texts_speak_of_the_project_alone(text)) == []
