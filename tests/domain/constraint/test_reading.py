"""Rules are read as they are written, and mistakes are told where they are."""

import time

import pytest

from benchmarks.verdicts import our_rules
from ostler.domain.constraint import syntax as s
from ostler.domain.constraint.check import check
from ostler.domain.constraint.compile import compile_policy, policy_of
from ostler.domain.constraint.facts import Facts
from ostler.domain.constraint.globs import matcher
from ostler.domain.constraint.parser import parse
from ostler.domain.constraint.printer import show_expression
from ostler.domain.tool import ToolSpec
from ostler.kernel.errors import PolicyInvalid
from tests.domain.constraint import fuzz

SPEC = ToolSpec(
    name="pay",
    description="",
    parameters={"type": "object", "properties": {"amount": {"type": "number"}, "to": {"type": "string"}}},
    roles=("moves_money",),
)


def condition(text: str) -> s.Expression:
    (rule,) = parse(f"DENY * IF {text}").rules
    assert isinstance(rule, s.Deny)
    assert rule.condition is not None
    return rule.condition


def problems(text: str) -> list[str]:
    try:
        policy_of(text)
    except PolicyInvalid as error:
        return [f"{path}: {problem}" for path, problem in error.problems]
    return []


def test_the_sample_means_something() -> None:
    assert compile_policy(policy_of(fuzz.SAMPLE)).name == "payments"


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("70%", s.Number(value=0.7)),
        ("10KB", s.Number(value=10_000)),
        ("5MiB", s.Number(value=5 * 2**20)),
        ("1e3", s.Number(value=1000.0)),
        ("-2", s.Number(value=-2)),
        ("500ms", s.Duration(us=500_000)),
        ("1w", s.Duration(us=7 * 86_400_000_000)),
        ("USD 20", s.Money(currency="USD", micro=20_000_000)),
        ("20 USD", s.Money(currency="USD", micro=20_000_000)),
        ("EUR 0.50", s.Money(currency="EUR", micro=500_000)),
        ('"a\\n\\u00e9"', s.Text(value="a\né")),
    ],
)
def test_a_literal_has_the_value_that_is_written(written: str, value: s.Expression) -> None:
    found = condition(f"args.a == {written}")
    assert isinstance(found, s.Compare)
    assert found.right == value


def test_keywords_are_written_in_any_case_and_comments_are_left_out() -> None:
    one = parse('deny tool.x if not args.a in {"b"} because "c" # d')
    assert one == parse('DENY tool.x\n  IF NOT args.a IN {"b"}\n  BECAUSE "c"')


@pytest.mark.parametrize("text", ["1 - (2 - 3)", "1 - 2 - 3", "(1 + 2) * 3", "4 / (2 * 2)", "-(args.a + 1)"])
def test_a_calculation_is_printed_in_the_order_in_which_it_is_read(text: str) -> None:
    assert show_expression(condition(f"args.n == {text}")) == f"args.n == {text}"
    assert condition(show_expression(condition(f"args.n == {text}"))) == condition(f"args.n == {text}")


@pytest.mark.parametrize(
    ("glob", "text", "matches"),
    [
        ("a*b*a", "aba", True),
        ("a*b*a", "aa", False),
        ("a*ba*ba", "aba", False),
        ("a*a", "a", False),
        ("*ab*ab", "ab", False),
        ("*ab*ab", "abab", True),
        ("*", "", True),
        ("", "a", False),
        ("a[b]?", "a[b]?", True),
        ("a**b", "ab", True),
    ],
)
def test_a_star_is_any_text_and_parts_do_not_overlap(glob: str, text: str, matches: bool) -> None:
    assert matcher(glob)(text) == matches


def test_unless_is_and_not_and_an_operation_is_everything() -> None:
    assert parse("DENY IF args.a").rules == parse("DENY * IF args.a").rules == parse("DENY operation IF args.a").rules


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("DENNY tool.x", "line 1, column 1", "did you mean 'DENY'?"),
        ("ALLOW tol.x", "line 1, column 7", "did you mean 'tool'?"),
        ("\nDENY tool.x IF args.a <= 10x", "line 2, column 26", "no unit 'x'"),
        ("DENY", "line 1, column 1", "DENY of what?"),
        ("DENY role.sendsout", "line 1, column 6", "did you mean 'sends_out'?"),
        ("DENY * IF risk_scor > 1", "line 1, column 11", "did you mean 'risk_score'?"),
        ("DENY * IF un.known", "line 1, column 11", "see the list of facts"),
        ('DENY * IF args.a > 1 AND args.a == "x"', "line 1, column 26", "a number compared with a text"),
        ("DENY * IF session.cost > EUR 5", "line 1, column 11", "a money USD compared with a money EUR"),
        ("DENY * IF session.elapsed > 5", "line 1, column 11", "a duration compared with a number"),
        ("DENY * IF args.a MATCHES /(/", "line 1, column 26", "cannot be used"),
        ("DENY * IF args.a MATCHES /(?<=a)b/", "line 1, column 26", "cannot be used"),
        ("DENY * IF args.a FROM usr", "line 1, column 11", "did you mean 'user'?"),
        ("DENY * IF EXISTS(session.steps)", "line 1, column 18", "only an argument"),
        ("input a: nmber", "line 1, column 10", "did you mean 'number'?"),
        ('input a: number = "x"', "line 1, column 19", "is no number"),
        ("input a: text\ninput a: text", "line 2, column 7", "declared twice"),
        ("RISK 2", "line 1, column 6", "between -1 and 1"),
        ("RISK risk_score", "line 1, column 6", "part of itself"),
        ('DENY * AS "a"\nALLOW * AS "a"', "line 2, column 1", "another rule"),
        ("DENY * IF HAPPENED(tool.x)", "line 1, column 27", "expected AFTER or SINCE or WITHIN"),
        ("DENY * IF COUNT(tool.x) WITHIN 0s > 1", "line 1, column 32", "no length"),
        ("LIMIT tool.x TO USD 5 PER 1h", "line 1, column 17", "a limit is a number"),
    ],
)
def test_a_mistake_is_told_where_it_is_and_what_was_meant(text: str, place: str, said: str) -> None:
    (problem,) = problems(text)
    assert problem.startswith(f"{place}: ")
    assert said in problem


def test_every_mistake_is_told_at_once_with_a_caret() -> None:
    found = problems('DENNY tool.x\nALLOW tol.x\nALLOW * IF (args.a\nDENY * IF args.b <= 10x\nDENY * BECAUSE "fine"')
    assert len(found) == 4
    assert found[1].endswith("\n      ALLOW tol.x\n            ^")


@pytest.mark.parametrize(
    "text",
    [
        "DENY * IF " + "(" * 5000 + "true" + ")" * 5000,
        "DENY * IF " + "NOT " * 5000 + "true",
        "DENY * IF 1 " + "+ 1" * 5000 + " > 2",
        "DENY * IF " + "-" * 5000 + "1 > 2",
        "DENY * IF " + " OR ".join(["args.a == 1"] * 5000),
        "DENY * IF " + " AND ".join(["(args.a == 1 OR args.b == 2)"] * 50),
        "DENY * IF args.a IN {" + ", ".join(map(str, range(20_000))) + "}",
        "\ud800",
        "x" * 300_000,
        "DENY * IF " + "9" * 5000 + " > 1",
        "DENY * IF args.a MATCHES /" + "(a*)*" * 150 + "/",
    ],
    ids=lambda text: text[:24],
)
def test_hostile_texts_are_read_or_refused(text: str) -> None:
    try:
        compiled = compile_policy(policy_of(text))
    except PolicyInvalid:
        return
    assert compiled.judge(Facts(args={"a": 3, "b": 3})).effect == "deny"


def test_tools_that_are_known_are_looked_up() -> None:
    def said(text: str) -> str:
        return "; ".join(map(str, check(parse(text), [SPEC])))

    assert said("DENY tool.pay IF args.amount > 5") == ""
    assert "did you mean 'pay'?" in said("DENY tool.pya")
    assert "did you mean 'args.amount'?" in said("DENY tool.pay IF args.amont > 5")
    assert "is of type string" in said("DENY role.moves_money IF args.to > 5")
    assert said("DENY * IF args.other > 5") == ""


@pytest.mark.parametrize("seed", [1, 2])
def test_texts_at_random_neither_crash_nor_hold_up_the_reader(seed: int) -> None:
    seen, _, _ = fuzz.try_batch(seed)
    assert seen.total() == fuzz.BATCH
    assert min(seen["compiled"], seen["unchecked"], seen["refused"]) > 0


def test_a_hundred_rules_are_read_and_compiled_in_a_tenth_of_a_second_of_cpu() -> None:
    policy_of("ALLOW *")
    spent = []
    for number in range(3):
        text = our_rules(100) + f"\n# {number}"
        begun = time.process_time()
        compile_policy(policy_of(text, f"p{number}")).judge(Facts(tool="pay"))
        spent.append(time.process_time() - begun)
    assert min(spent) < 0.1
