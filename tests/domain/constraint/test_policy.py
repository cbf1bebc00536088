"""What a policy says of one call: deny overrides, then require, then allow; a missing fact opens no door."""

from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostler.domain.constraint.compile import compile_policy
from ostler.domain.constraint.facts import Facts
from ostler.domain.constraint.policy import Policy, Rule
from ostler.domain.constraint.verdict import Verdict


def verdict(
    *rules: Rule, tool: str = "files.edit", default: Literal["allow", "deny"] = "allow", **arguments: Any
) -> Verdict:
    found = compile_policy(Policy("house", 2, rules, default)).judge(Facts(tool=tool, args=arguments))
    assert (found.policy, len(found.digest)) == ("house@2", 16)
    return msgspec.structs.replace(found, policy="", digest="")


ALLOW = Rule("allow", "*", because="anything goes")
REQUIRE = Rule("require", "*", because="ask first", within_s=60.0)
DENY = Rule("deny", "*", because="never", name="never")


@given(st.permutations([ALLOW, REQUIRE, DENY, Rule("allow", "files.*")]))
def test_a_denial_wins_wherever_it_stands(rules: list[Rule]) -> None:
    assert verdict(*rules) == Verdict("deny", "never", "never")


@given(st.permutations([ALLOW, REQUIRE, Rule("allow", "files.*")]))
def test_asking_wins_over_allowing_wherever_it_stands(rules: list[Rule]) -> None:
    found = verdict(*rules)
    assert (found.effect, found.reason, found.demands[0].within_s) == ("require", "ask first", 60.0)
    assert found.rule == f"house#{rules.index(REQUIRE) + 1}"


def test_the_first_of_several_rules_that_say_the_same_is_named() -> None:
    assert verdict(Rule("deny", "x"), Rule("deny", "*", name="one"), Rule("deny", "*", name="two")).rule == "one"


def test_without_a_rule_the_default_holds_and_says_so() -> None:
    assert verdict() == Verdict("allow")
    assert verdict(default="deny") == Verdict("deny", "house#default", "no rule allows it")
    assert verdict(Rule("allow", "files.*"), default="deny") == Verdict("allow", "house#1")


@pytest.mark.parametrize(
    ("pattern", "tool", "matches"),
    [
        ("files.edit", "files.edit", True),
        ("files.*", "files.edit", True),
        ("*", "files.edit", True),
        ("*.edit", "files.edit", True),
        ("files", "files.edit", False),
        ("FILES.*", "files.edit", False),
        ("files.?dit", "files.edit", False),
        ("files.[e]dit", "files.edit", False),
        ("", "files.edit", False),
    ],
)
def test_a_tool_is_matched_by_name_where_only_the_star_is_special(pattern: str, tool: str, matches: bool) -> None:
    assert (verdict(Rule("deny", pattern), tool=tool).effect == "deny") == matches


@pytest.mark.parametrize(
    ("path", "globs", "matches"),
    [
        ("path", ("src/*",), True),
        ("path", ("docs/*", "*.py"), True),
        ("path", ("docs/*",), False),
        ("path", (), False),
        ("argv", ("git commit*",), True),
        ("argv", ("git",), False),
        ("argv.0", ("git",), True),
        ("argv.1", ("commit",), True),
        ("options.host", ("*.example",), True),
        ("options.ports.0", ("80",), True),
        ("options", ('{"host"*',), True),
        ("count", ("12",), True),
        ("is_new", ("true",), True),
        ("nothing", ("null",), True),
    ],
)
def test_an_argument_is_matched_as_its_text(path: str, globs: tuple[str, ...], matches: bool) -> None:
    arguments: dict[str, Any] = {
        "path": "src/a.py",
        "argv": ["git", "commit", "-m", "x y"],
        "options": {"host": "a.example", "ports": [80, 443]},
        "count": 12,
        "is_new": True,
        "nothing": None,
    }
    for effect in ("allow", "deny", "require"):
        found = verdict(Rule(effect, "*", where={path: globs}), default="deny", **arguments)
        assert (found.rule == "house#1") == matches


@pytest.mark.parametrize("path", ["missing", "path.deeper", "argv.9", "argv.x", "argv.-1", "options.none"])
def test_a_missing_argument_never_allows_and_always_denies_or_asks(path: str) -> None:
    arguments: dict[str, Any] = {"path": "a", "argv": ["x"], "options": {}}
    where: dict[str, tuple[str, ...]] = {path: ("*",)}
    assert verdict(Rule("allow", "*", where=where), default="deny", **arguments).effect == "deny"
    assert verdict(Rule("deny", "*", where=where), **arguments).effect == "deny"
    assert verdict(Rule("require", "*", where=where), **arguments).effect == "require"


@pytest.mark.parametrize("path", ["missing", "argv.9"])
def test_a_missing_argument_is_no_exception_from_a_denial_and_is_one_from_an_allowance(path: str) -> None:
    unless: dict[str, tuple[str, ...]] = {path: ("*",)}
    assert verdict(Rule("deny", "*", unless=unless), argv=["x"]).effect == "deny"
    assert verdict(Rule("require", "*", unless=unless), argv=["x"]).effect == "require"
    assert verdict(Rule("allow", "*", unless=unless), default="deny", argv=["x"]).effect == "deny"


def test_all_paths_of_where_must_match_and_an_exception_needs_all_of_its_own() -> None:
    rule = Rule("deny", "*", where={"a": ("1",), "b": ("2",)}, unless={"c": ("3",), "d": ("4",)})
    assert verdict(rule, a=1, b=2, c=0, d=0).effect == "deny"
    assert verdict(rule, a=1, b=0, c=0, d=0).effect == "allow"
    assert verdict(rule, a=1, b=2, c=3, d=0).effect == "deny"
    assert verdict(rule, a=1, b=2, c=3, d=4).effect == "allow"


@pytest.mark.parametrize("text", ["rm\n-rf", "a\nb", "[x]", "what?", "tab\there", "ünï", ""])
def test_a_star_matches_any_text_at_all(text: str) -> None:
    assert verdict(Rule("deny", "*", where={"text": ("*",)}), text=text).effect == "deny"
    assert verdict(Rule("deny", "*", where={"text": (text.replace("*", ""),)}), text=text).effect == "deny"


def test_a_number_that_is_written_differently_is_the_same_text_only_if_json_says_so() -> None:
    assert verdict(Rule("deny", "*", where={"n": ("1",)}), n=1).effect == "deny"
    assert verdict(Rule("deny", "*", where={"n": ("1.0",)}), n=1.0).effect == "deny"
    assert verdict(Rule("deny", "*", where={"n": ("1",)}), n="1").effect == "deny"


def test_a_list_within_a_list_is_matched_as_its_words() -> None:
    assert verdict(Rule("deny", "*", where={"all": ("a b c",)}), all=[["a", "b"], "c"]).effect == "deny"
