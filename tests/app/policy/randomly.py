"""Policies and calls at random, of few words, so that they meet often."""

from typing import Any

from hypothesis import reject
from hypothesis import strategies as st

from ostler.app.policy.case import Case, Saying
from ostler.app.policy.files import policy_from
from ostler.domain.constraint.policy import Policy
from ostler.kernel.errors import PolicyInvalid

INPUTS = """
input is_closed: boolean = false
input hosts: set = {"api.example.com", "*.example.org"}
input ceiling: number = 5
"""
TARGETS = st.sampled_from(
    ["tool.pay", "tool.mail.send", "tool.*", "tool.mail.*", "role.sends_out", "operation", "effect.read"]
)
ATOMS = st.sampled_from(
    [
        "args.amount <= 5",
        "args.amount > 4",
        "args.amount * 2 >= 9",
        "args.amount / args.rate > 2",
        "args.amount > ceiling",
        'EXISTS(args.note) AND args.note == "x"',
        "NOT EXISTS(args.note) OR LENGTH(args.note) > 2",
        "args.host IN hosts",
        'args.host IN {"api.example.com", "a.example.org"}',
        'args.host MATCHES "*.example.org"',
        'LOWER(args.host) == "api.example.com"',
        'args.host < "b"',
        "args.host == principal.id",
        'args.to HAS "ann"',
        'args.to IN {"ann", "bob"}',
        'destinations IN {"ann"}',
        "args.host FROM user",
        "args.host FROM user, tool.book",
        "args.host FROM trusted",
        'context.labels HAS "secret"',
        "context.untrusted",
        "role.sends_out",
        "role.moves_money AND args.amount > 3",
        'effect == "read"',
        'tool.name MATCHES "mail.*"',
        'principal.roles HAS "clerk"',
        'principal.kind == "agent"',
        "time.hour >= 18",
        'time.weekday IN {"sat", "sun"}',
        "session.cost > USD 2",
        "session.elapsed > 10m",
        "budget.calls_left < 3",
        "risk_score >= 0.6",
        "risk_score < 0.3",
        "is_closed",
        "HAPPENED(tool.read) WITHIN 10m",
        "COUNT(tool.read) WITHIN 10m > 2",
        "COUNT(tool.read) WITHIN 1h > 2",
        "SUM(tool.pay.args.amount) WITHIN 1h > 10",
    ]
)
CONDITIONS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        inner.map(lambda one: f"NOT ({one})"),
        st.tuples(inner, inner).map(lambda two: f"({two[0]}) AND ({two[1]})"),
        st.tuples(inner, inner).map(lambda two: f"({two[0]}) OR ({two[1]})"),
    ),
    max_leaves=3,
)
WHEN = st.one_of(st.just(""), CONDITIONS.map(lambda one: f" IF {one}"), CONDITIONS.map(lambda one: f" UNLESS {one}"))
APPROVALS = st.sampled_from(["approval", "2 approvals", 'approval BY role "boss"', "approval WITHIN 1h"])
RULES = st.one_of(
    st.tuples(TARGETS, WHEN).map(lambda two: f"ALLOW {two[0]}{two[1]}"),
    st.tuples(TARGETS, WHEN).map(lambda two: f"DENY {two[0]}{two[1]}"),
    st.tuples(APPROVALS, TARGETS, WHEN).map(lambda three: f"REQUIRE {three[0]} FOR {three[1]}{three[2]}"),
    st.tuples(TARGETS, st.integers(1, 3), st.sampled_from(["10m", "1h"])).map(
        lambda three: f"LIMIT {three[0]} TO {three[1]} PER {three[2]}"
    ),
)


@st.composite
def policies(draw: Any) -> Policy:
    rules = draw(st.lists(RULES, min_size=1, max_size=4))
    text = "\n".join([f"default {draw(st.sampled_from(['allow', 'deny']))}", INPUTS, *rules])
    try:
        return policy_from(text, "some")
    except PolicyInvalid:  # an argument that is a text in one place and a list in another
        reject()


_WORDS = st.sampled_from(["api.example.com", "API.example.com", "a.example.org", "ann", "bob", "x", "xyz", ""])
_NUMBERS = st.sampled_from([0, 1, 2, 3, 4, 4.5, 5, 6, 11])
_ARGS = st.fixed_dictionaries(
    {},
    optional={
        "amount": st.one_of(_NUMBERS, _WORDS),
        "rate": st.sampled_from([0, 1, 2]),
        "note": _WORDS,
        "host": st.one_of(_WORDS, st.just(3)),
        "to": st.one_of(st.lists(_WORDS, max_size=2), _WORDS),
    },
)
_FACTS = st.fixed_dictionaries(
    {},
    optional={
        "destinations": st.lists(_WORDS, max_size=2),
        "principal.id": _WORDS,
        "principal.kind": st.sampled_from(["user", "agent"]),
        "principal.roles": st.lists(st.sampled_from(["clerk", "boss"]), max_size=2),
        "context.labels": st.lists(st.sampled_from(["secret", "untrusted", "private"]), max_size=2),
        "session.cost": st.sampled_from(["USD 1", "USD 3"]),
        "session.elapsed": st.sampled_from(["1m", "1h"]),
        "budget.calls_left": st.integers(0, 4),
        "time.hour": st.sampled_from([3, 18, 20]),
        "time.weekday": st.sampled_from(["mon", "sat"]),
    },
)
_SAID = st.lists(
    st.builds(lambda source, text: Saying(source=source, text=text), st.sampled_from(["user", "tool.book"]), _WORDS),
    max_size=2,
)


_ROLES = st.lists(st.sampled_from(["sends_out", "moves_money"]), max_size=2, unique=True)


@st.composite
def cases(draw: Any) -> Case:
    reads, more = draw(st.integers(0, 4)), draw(st.integers(0, 3))
    calls, later = draw(st.integers(0, 3)), draw(st.integers(0, 2))
    history: dict[str, float] = {
        "HAPPENED(tool.read) WITHIN 10m": float(reads > 0),
        "COUNT(tool.read) WITHIN 10m": reads,
        "COUNT(tool.read) WITHIN 1h": reads + more,
        "SUM(tool.pay.args.amount) WITHIN 1h": draw(_NUMBERS) * 4,
    }
    for target in ("tool.pay", "tool.mail.send", "tool.*", "tool.mail.*", "role.sends_out", "operation", "effect.read"):
        history[f"COUNT({target}) WITHIN 10m"] = calls
        history[f"COUNT({target}) WITHIN 1h"] = calls + later
    operation = draw(st.sampled_from(["tool", "tool", "tool", "model", "memory"]))
    return Case(
        operation=operation,
        tool=draw(st.sampled_from(["pay", "mail.send", "mail.any", "read"])),
        roles=tuple(draw(_ROLES)) if operation == "tool" else (),
        effect=draw(st.sampled_from(["read", "once"])),
        args=draw(_ARGS),
        facts=draw(_FACTS),
        inputs=draw(
            st.fixed_dictionaries(
                {}, optional={"is_closed": st.booleans(), "hosts": st.lists(_WORDS, max_size=2), "ceiling": _NUMBERS}
            )
        ),
        said=tuple(draw(_SAID)),
        history=history,
    )
