"""Policies and calls at random: trees of every kind for the printer, policies that mean something for the engine."""

from typing import Any

from hypothesis import strategies as st

from ostler.domain.constraint import syntax as s
from ostler.domain.constraint.facts import Facts
from ostler.domain.constraint.kinds import ROLES

# ------------------------------------------------------------------------------------------- trees, whatever they mean

words = st.from_regex(r"[a-z][a-z0-9_]{0,6}", fullmatch=True).filter(
    lambda word: (
        word
        not in {
            "allow",
            "deny",
            "require",
            "redact",
            "and",
            "or",
            "not",
            "in",
            "if",
            "unless",
            "because",
            "true",
            "false",
        }
    )
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
numbers = st.integers(-(2**62), 2**62) | st.floats(allow_nan=False, allow_infinity=False)
durations = st.integers(1, 10**15)
number = st.builds(s.Number, value=numbers)
text = st.builds(s.Text, value=texts)
boolean = st.builds(s.Boolean, value=st.booleans())
duration = st.builds(s.Duration, us=durations)
money = st.builds(s.Money, currency=st.sampled_from(["USD", "EUR", "CHF"]), micro=st.integers(-(10**15), 10**15))
literal = number | text | boolean | duration | money
collections = st.builds(s.SetOf, items=st.lists(literal, max_size=4).map(tuple)) | st.builds(
    s.ListOf, items=st.lists(literal, max_size=4).map(tuple)
)
globs = st.from_regex(r"[a-z*][a-z0-9_*-]{0,5}(\.[a-z*][a-z0-9_*-]{0,5})?", fullmatch=True)
target = (
    st.builds(s.Target, space=st.sampled_from(["tool", "model", "memory", "session"]), glob=globs)
    | st.builds(s.Target, space=st.just("role"), glob=st.sampled_from(ROLES))
    | st.builds(s.Target, space=st.just("effect"), glob=st.sampled_from(["read", "once"]))
    | st.just(s.Target(space="operation"))
)
targets = st.lists(target, min_size=1, max_size=3).map(tuple)
scopes = st.sampled_from(["session", "agent", "principal", "tenant"])
paths = st.lists(words, min_size=1, max_size=3).map(tuple)
names = paths.map(lambda path: s.Name(path=path))
bounds = st.none() | st.builds(s.Bound, kind=st.sampled_from(["since", "after"]), target=target)
questions = st.builds(
    s.History,
    asks=st.sampled_from(["HAPPENED", "SUCCEEDED", "COUNT"]),
    targets=targets,
    within_us=durations,
    bound=bounds,
    per=scopes,
) | st.builds(
    s.History,
    asks=st.just("SUM"),
    targets=st.tuples(st.builds(s.Target, space=st.just("tool"), glob=words)),
    within_us=durations,
    argument=paths,
    bound=bounds,
    per=scopes,
)
patterns = text | st.from_regex(r"[a-z/.+()]{1,8}", fullmatch=True).map(lambda pattern: s.Regex(pattern=pattern))
sources = st.lists(st.sampled_from(["user", "system", "tool.a.*", "role.looks_up"]), min_size=1, max_size=3).map(tuple)


def _larger(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    several = st.lists(inner, min_size=2, max_size=3)
    return st.one_of(
        st.builds(s.Not, operand=inner),
        several.map(lambda parts: _flat(s.And, parts)),
        several.map(lambda parts: _flat(s.Or, parts)),
        st.builds(s.Compare, operator=st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), left=inner, right=inner),
        st.builds(s.In, item=inner, collection=inner),
        st.builds(s.Has, collection=inner, item=inner),
        st.builds(s.Matches, text=inner, pattern=patterns),
        st.builds(s.From, value=inner, sources=sources),
        st.builds(s.Arithmetic, operator=st.sampled_from(["+", "-", "*", "/"]), left=inner, right=inner),
        inner.filter(lambda one: not isinstance(one, s.Number | s.Money | s.Duration)).map(
            lambda one: s.Negative(operand=one)
        ),
        st.builds(s.Call, function=st.sampled_from(["LOWER", "LENGTH", "EXISTS"]), argument=inner),
    )


def _flat(kind: Any, parts: list[Any]) -> Any:
    return kind(operands=tuple(one for part in parts for one in (part.operands if isinstance(part, kind) else (part,))))


expressions = st.recursive(literal | collections | names | questions, _larger, max_leaves=12)
reasons = st.just("") | texts.filter(lambda reason: bool(reason.strip()))
rule = {"condition": st.none() | expressions, "unless": st.none() | expressions, "because": reasons, "name": reasons}
statements = st.one_of(
    st.builds(s.Input, name=words, kind=st.sampled_from(["text", "set"]), default=st.none() | literal | collections),
    st.builds(
        s.Risk,
        amount=expressions.filter(lambda one: not isinstance(one, s.Or | s.And | s.Not)),
        targets=targets,
        condition=st.none() | expressions,
        because=reasons,
    ),
    st.builds(s.Allow, targets=targets, **rule),
    st.builds(s.Deny, targets=targets, **rule),
    st.builds(
        s.Require,
        targets=targets,
        count=st.integers(1, 100),
        roles=st.lists(texts, max_size=2).map(tuple),
        within_us=st.none() | durations,
        **rule,
    ),
    st.builds(
        s.Limit,
        targets=targets,
        ceiling=numbers.filter(lambda n: n >= 0),
        window_us=durations,
        per=scopes,
        because=reasons,
        name=reasons,
    ),
    st.builds(
        s.Redact,
        targets=targets,
        detectors=st.lists(globs, min_size=1, max_size=2).map(tuple),
        because=reasons,
        name=reasons,
    ),
)
trees = st.builds(
    s.Parsed,
    name=words,
    version=st.integers(0, 10**6),
    default=st.sampled_from(["allow", "deny"]),
    statements=st.lists(statements, max_size=5).map(tuple),
)

# ----------------------------------------------------------------------------------------- policies that mean something

SOME_TEXTS = ["a", "b", "a.x", "b.y", "A"]
SOME_NUMBERS = [0, 1, 2, 3, 0.5, -1]
small = st.sampled_from(SOME_NUMBERS).map(lambda value: s.Number(value=value))
word = st.sampled_from(SOME_TEXTS).map(lambda value: s.Text(value=value))
comparisons = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
equalities = st.sampled_from(["==", "!="])


def name(dotted: str) -> s.Name:
    return s.Name(path=tuple(dotted.split(".")))


quantity_names = ["args.n1", "args.n2", "args.deep.n", "limit", "session.steps", "agent.version", "risk_score"]
quantities = st.sampled_from(quantity_names).map(name)
counts = st.sampled_from(
    [
        s.History(asks="COUNT", targets=(s.Target(space="tool", glob="pay"),), within_us=60_000_000),
        s.History(
            asks="SUM",
            targets=(s.Target(space="tool", glob="pay"),),
            within_us=60_000_000,
            argument=("n1",),
            per="tenant",
        ),
    ]
)
parts_of_one = st.sampled_from([0, 0.1, 0.2, 0.3, 0.4, 0.6, 1]).map(lambda value: s.Number(value=value))
happened = st.just(s.History(asks="HAPPENED", targets=(s.Target(space="tool", glob="mail"),), within_us=1_000_000))
sums = st.recursive(
    quantities | counts | small,
    lambda inner: st.builds(s.Arithmetic, operator=st.sampled_from(["+", "-", "*", "/"]), left=inner, right=inner),
    max_leaves=3,
)
word_names = st.sampled_from(["args.t1", "args.t2", "mode", "agent.name", "effect", "tool.name"]).map(name)
word_sets = st.lists(st.sampled_from([*SOME_TEXTS, "*.x"]), max_size=3).map(
    lambda items: s.SetOf(items=tuple(s.Text(value=item) for item in items))
)
flags = st.sampled_from(["args.b1", "flag", "context.untrusted", "role.sends_out"]).map(name)
known_lists = st.sampled_from(["context.labels", "hosts", "destinations"]).map(name)
lists = st.sampled_from(["args.l1", "context.labels", "hosts", "destinations"]).map(name)
asked = ["n1", "t1", "b1"]
guarded = st.sampled_from(
    [
        s.And(
            operands=(
                s.Call(function="EXISTS", argument=name("args.m")),
                s.Compare(operator=">", left=name("args.m"), right=s.Number(value=1)),
            )
        ),
        s.Or(
            operands=(
                s.Not(operand=s.Call(function="EXISTS", argument=name("args.m"))),
                s.Compare(operator="<", left=name("args.m"), right=s.Number(value=2)),
            )
        ),
        s.And(
            operands=(
                s.Call(function="EXISTS", argument=name("args.m")),
                s.Compare(
                    operator=">",
                    left=s.Arithmetic(operator="/", left=s.Number(value=1), right=name("args.m")),
                    right=s.Number(value=0.4),
                ),
            )
        ),
        s.And(
            operands=(
                s.Call(function="EXISTS", argument=name("args.m")),
                s.Compare(
                    operator="<",
                    left=s.Arithmetic(operator="/", left=name("args.m"), right=name("args.n1")),
                    right=name("args.n2"),
                ),
            )
        ),
        s.Call(function="EXISTS", argument=name("args.t2")),
    ]
)


def _is_of_arguments_alone(one: Any) -> bool:
    """Then it is open whether they are texts or numbers; the reference knows them by their names."""
    return bool(one.item.path[0] == one.collection.path[0] == "args")


atoms = st.one_of(
    st.builds(s.Compare, operator=comparisons, left=quantities, right=small),
    st.builds(s.Compare, operator=comparisons, left=small, right=quantities),
    st.builds(s.Compare, operator=comparisons, left=sums, right=small),
    st.builds(s.Compare, operator=comparisons, left=st.just(name("risk_score")), right=parts_of_one),
    st.builds(s.Compare, operator=equalities, left=word_names, right=word),
    st.builds(s.Compare, operator=equalities, left=flags, right=boolean),
    st.builds(s.In, item=word_names, collection=word_sets),
    st.builds(s.In, item=word_names, collection=lists).filter(lambda one: not _is_of_arguments_alone(one)),
    st.builds(s.In, item=known_lists, collection=word_sets),
    st.builds(s.Has, collection=lists, item=word),
    st.builds(s.Matches, text=word_names, pattern=st.sampled_from(["*.x", "a*", "*"]).map(lambda g: s.Text(value=g))),
    st.builds(s.From, value=st.sampled_from(["args.t1", "args.l1"]).map(name), sources=sources),
    st.builds(s.Compare, operator=comparisons, left=counts, right=small),
    flags,
    happened,
    guarded,
)
conditions = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.builds(s.Not, operand=inner),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: _flat(s.And, parts)),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: _flat(s.Or, parts)),
    ),
    max_leaves=5,
)
some_targets = st.lists(
    st.sampled_from(
        [
            s.Target(space="tool", glob="pay"),
            s.Target(space="tool", glob="*"),
            s.Target(space="tool", glob="mail"),
            s.Target(space="role", glob="sends_out"),
            s.Target(space="effect", glob="read"),
            s.Target(space="model"),
            s.Target(space="operation"),
        ]
    ),
    min_size=1,
    max_size=2,
).map(tuple)
mostly = st.one_of(st.none(), conditions, conditions)
deciding = st.one_of(
    st.builds(s.Allow, targets=some_targets, condition=mostly, unless=st.none() | conditions),
    st.builds(s.Deny, targets=some_targets, condition=conditions, unless=st.none() | conditions),
    st.builds(s.Deny, targets=some_targets, condition=conditions, unless=st.none()),
    st.builds(s.Require, targets=some_targets, condition=mostly, count=st.integers(1, 2)),
    st.builds(
        s.Limit,
        targets=st.just((s.Target(space="tool", glob="pay"),)),
        ceiling=st.sampled_from([0, 1, 2, 5]),
        window_us=st.just(60_000_000),
    ),
)
risk_names = [one for one in quantity_names if one != "risk_score"]
risks = st.builds(
    s.Risk,
    amount=st.sampled_from([0.1, 0.2, 0.3, -0.1]).map(lambda value: s.Number(value=value)),
    targets=some_targets,
    condition=st.one_of(
        st.none(),
        flags,
        st.builds(s.Compare, operator=comparisons, left=st.sampled_from(risk_names).map(name), right=small),
    ),
)
INPUTS = (
    s.Input(name="limit", kind="number", default=s.Number(value=1)),
    s.Input(name="mode", kind="text"),
    s.Input(name="flag", kind="boolean", default=s.Boolean(value=False)),
    s.Input(name="hosts", kind="set", default=s.SetOf(items=(s.Text(value="*.x"), s.Text(value="b")))),
)
policies = st.builds(
    s.Parsed,
    name=st.just("house"),
    version=st.just(1),
    default=st.sampled_from(["allow", "deny"]),
    statements=st.tuples(st.lists(risks, max_size=2), st.lists(deciding, max_size=9)).map(
        lambda both: (*INPUTS, *both[0], *both[1])
    ),
)

simple = st.one_of(
    st.builds(
        s.Compare, operator=comparisons, left=st.sampled_from(["args.n1", "session.steps"]).map(name), right=small
    ),
    st.builds(s.Compare, operator=comparisons, left=small, right=st.just(name("args.n1"))),
    st.builds(s.Compare, operator=equalities, left=st.just(name("args.t1")), right=word),
    st.builds(s.In, item=st.just(name("args.t1")), collection=word_sets),
    st.builds(s.Has, collection=st.just(name("context.labels")), item=word),
    st.builds(s.Compare, operator=equalities, left=st.just(name("args.b1")), right=boolean),
    st.just(name("args.b1")),
)
shallow = st.one_of(simple, simple.map(lambda one: s.Not(operand=one)))
conjunctions = st.lists(shallow, min_size=2, max_size=4).map(lambda parts: _flat(s.And, parts))
everything = (s.Target(space="operation"),)
dense = st.builds(
    s.Parsed,
    name=st.just("house"),
    version=st.just(1),
    default=st.just("deny"),
    statements=st.tuples(
        st.lists(st.builds(s.Deny, targets=st.just(everything), condition=conjunctions), max_size=20),
        st.lists(st.builds(s.Allow, targets=st.just(everything), condition=shallow | conjunctions), max_size=10),
    ).map(lambda both: (*both[0], *both[1])),
)
"""Many short rules about the same few facts: what the sieve is for."""

plain_calls = st.builds(
    Facts,
    tool=st.just("pay"),
    args=st.fixed_dictionaries(
        {"n1": st.sampled_from(SOME_NUMBERS), "t1": st.sampled_from(SOME_TEXTS), "b1": st.booleans()}
    ),
    steps=st.integers(0, 3),
    labels=st.sampled_from([frozenset(), frozenset({"a", "b"}), frozenset({"a.x"})]),
)

odd: st.SearchStrategy[Any] = st.sampled_from([None, "2", True, float("nan"), float("inf"), [], {}, 10**400])


def mostly_given(value: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.integers(0, 79).flatmap(lambda chance: odd if chance == 0 else value)


number_values = mostly_given(st.sampled_from(SOME_NUMBERS))
text_values = mostly_given(st.sampled_from(SOME_TEXTS))
arguments = st.fixed_dictionaries(
    {
        "n1": number_values,
        "n2": number_values,
        "t1": text_values,
        "b1": mostly_given(st.booleans()),
        "l1": mostly_given(st.lists(st.sampled_from(SOME_TEXTS), max_size=2)),
        "deep": mostly_given(st.fixed_dictionaries({"n": number_values})),
        "t2": text_values,
    },
    optional={"m": number_values},
)
some_inputs = st.fixed_dictionaries(
    {"mode": text_values},
    optional={
        "limit": number_values,
        "flag": mostly_given(st.booleans()),
        "hosts": mostly_given(st.lists(st.sampled_from([*SOME_TEXTS, "*.y"]), max_size=2)),
    },
)
given_inputs = st.one_of(
    some_inputs, some_inputs, some_inputs, some_inputs, st.sampled_from([{}, {"mode": "a", "unknown": 1}])
)


class Heard:
    """Who said what, by a fixed table."""

    def said(self, value: object, sources: Any) -> bool:
        return "user" in sources and value in ("a", "b", [], ["a"])


calls = st.builds(
    Facts,
    operation=st.sampled_from(["tool", "tool", "tool", "model"]),
    tool=st.sampled_from(["pay", "mail", "other"]),
    roles=st.sampled_from([frozenset(), frozenset({"sends_out"}), frozenset({"deletes", "shares", "sends_out"})]),
    effect=st.sampled_from(["read", "once"]),
    args=arguments,
    destinations=st.sampled_from([(), ("a",), ("a.x", "b")]),
    agent=st.sampled_from(SOME_TEXTS),
    agent_version=st.integers(0, 3),
    steps=st.integers(0, 3),
    labels=st.sampled_from(
        [frozenset(), frozenset({"untrusted"}), frozenset({"untrusted", "private"}), frozenset({"a", "b"})]
    ),
    inputs=given_inputs,
    history=st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.0]), min_size=4, max_size=4).map(tuple),
    sources=st.sampled_from([*[Heard()] * 9, None]),
)
