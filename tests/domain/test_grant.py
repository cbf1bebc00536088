"""Grants are handed down and never widened."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostler.domain.grant import (
    DEPTH_MAX,
    Grant,
    Rights,
    Wanted,
    allows,
    attenuate,
    effective,
    problems_in,
    problems_in_chain,
)
from ostler.domain.identity import LOCAL_USER, Principal, agent_principal
from ostler.domain.tool import ToolSpec
from ostler.kernel.errors import GrantWidened

ROOT = Grant("g0", "acme", "ada", "agent:clerk@1", ("crm.*", "pay"), ("crm.*", "pay"), expires_us=1000, depth=3)
ADA = Principal("ada", tenant="acme", scopes=("crm.*", "pay", "hr.read"))
CLERK = agent_principal("clerk", 1, tenant="acme", scopes=("*",))

WORDS = st.sampled_from(["crm.read", "crm.write", "crm.*", "*", "pay", "p*", "*.read", "mail.send", "crm.*.x"])
GLOBS = st.lists(WORDS, max_size=3).map(tuple)
MOMENTS = st.none() | st.integers(0, 20)
GRANTS = st.builds(
    Grant,
    st.just("g0"),
    st.just("acme"),
    st.just("ada"),
    st.just("a0"),
    GLOBS,
    GLOBS,
    MOMENTS,
    st.integers(0, DEPTH_MAX),
)
WISHES = st.builds(
    Wanted,
    st.sampled_from(["a1", "a2"]),
    st.none() | GLOBS,
    st.none() | GLOBS,
    MOMENTS,
    st.none() | st.integers(-1, DEPTH_MAX),
)
TOOLS = st.builds(
    ToolSpec,
    st.sampled_from(["crm.read", "crm.write", "pay", "pry", "mail.send", "crm.a.x"]),
    st.just(""),
    st.just({}),
    scopes=st.lists(st.sampled_from(["crm.read", "crm.write", "pay", "hr.read", "mail.send"]), max_size=2).map(tuple),
)


def spec(name: str = "pay", *scopes: str) -> ToolSpec:
    return ToolSpec(name, "", {}, scopes=scopes)


def chain_of(root: Grant, wishes: list[Wanted]) -> list[Grant]:
    """What comes of handing on, by those wishes that can be fulfilled."""
    chain = [root]
    for number, wanted in enumerate(wishes, 1):
        try:
            chain.append(attenuate(chain[-1], wanted, grant_id=f"g{number}"))
        except GrantWidened:
            continue
    return chain


@given(GRANTS, st.lists(WISHES, max_size=8), st.lists(st.tuples(TOOLS, st.integers(0, 25)), max_size=20))
def test_no_holder_of_a_chain_may_do_what_one_before_may_not(
    root: Grant, wishes: list[Wanted], tries: list[tuple[ToolSpec, int]]
) -> None:
    chain = chain_of(root, wishes)
    assert len(chain) <= root.depth + 1
    assert problems_in_chain(chain) == []
    for tool, now_us in tries:
        allowed = [allows(grant, tool, now_us) for grant in chain]
        assert allowed == sorted(allowed, reverse=True)


@given(GRANTS, WISHES)
def test_a_wish_is_fulfilled_exactly_or_refused(root: Grant, wanted: Wanted) -> None:
    try:
        child = attenuate(root, wanted, grant_id="g1")
    except GrantWidened:
        return
    for field in ("actor", "scopes", "tools", "expires_us", "depth"):
        if (value := getattr(wanted, field)) is not None:
            assert getattr(child, field) == value


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (Wanted("b", scopes=("hr.read",)), "the scopes hr.read are not within crm.*, pay"),
        (Wanted("b", scopes=("*",)), "the scopes * are not within"),
        (Wanted("b", tools=("crm*",)), "the tools crm* are not within crm.*, pay"),
        (Wanted("b", expires_us=1001), "it would last longer"),
        (Wanted("b", depth=3), "it may be handed on 3 times more, and 2 are left"),
        (Wanted("b", depth=-1), "it may be handed on -1 times more"),
    ],
)
def test_each_way_of_widening_is_refused_and_named(wanted: Wanted, said: str) -> None:
    with pytest.raises(GrantWidened) as refused:
        attenuate(ROOT, wanted, grant_id="g1")
    assert said in refused.value.message
    assert refused.value.hint


def test_what_may_not_be_handed_on_is_not() -> None:
    last = msgspec.structs.replace(ROOT, depth=0)
    with pytest.raises(GrantWidened, match="may not be handed on"):
        attenuate(last, Wanted("b"), grant_id="g1")


@pytest.mark.parametrize(
    "change",
    [
        {"tenant": "rival"},
        {"subject": "eve"},
        {"parent": "g9"},
        {"scopes": ("*",)},
        {"tools": ("*",)},
        {"expires_us": None},
        {"expires_us": 1001},
        {"depth": 3},
        {"scopes": ("a\0b",)},
    ],
    ids=str,
)
def test_a_link_that_was_forged_breaks_the_chain(change: dict[str, object]) -> None:
    child = attenuate(ROOT, Wanted("b"), grant_id="g1")
    assert problems_in_chain([ROOT, child]) == []
    forged = msgspec.structs.replace(child, **change)
    assert problems_in_chain([ROOT, forged]) != []


def test_a_chain_must_begin_at_its_beginning() -> None:
    child = attenuate(ROOT, Wanted("b"), grant_id="g1")
    assert problems_in_chain([child]) == ["g1 comes from g0, which is missing"]
    assert problems_in_chain([]) == ["there is no grant"]


@pytest.mark.parametrize("glob", ["", "a b", "a\0", "[ab]", "a?", "x" * 129])
def test_what_is_no_glob_is_refused(glob: str) -> None:
    assert problems_in(msgspec.structs.replace(ROOT, tools=(glob,)))
    assert problems_in(msgspec.structs.replace(ROOT, scopes=(glob,)))


def test_a_grant_ends_at_the_moment_that_it_names() -> None:
    assert allows(ROOT, spec(), 999)
    assert not allows(ROOT, spec(), 1000)


@given(st.lists(WORDS, max_size=3).map(tuple), GLOBS, st.none() | GRANTS, TOOLS, st.integers(0, 25))
def test_effective_rights_are_what_all_three_have(
    users: tuple[str, ...], agents: tuple[str, ...], grant: Grant | None, tool: ToolSpec, now_us: int
) -> None:
    user = Principal("ada", tenant="acme", scopes=users)
    agent = Principal("a0", "agent", "acme", agents)
    rights = effective(user, agent, grant)
    each = [user.may(scope) and agent.may(scope) for scope in tool.scopes]
    assert (not rights.refusal(tool, now_us)) == (all(each) and (grant is None or allows(grant, tool, now_us)))
    for scope in ("crm.read", "pay"):
        if rights.may(scope):
            assert user.may(scope)
            assert agent.may(scope)


@pytest.mark.parametrize(
    ("rights", "said"),
    [
        (effective(ADA, CLERK), ""),
        (effective(ADA, CLERK, ROOT), ""),
        (effective(Principal("ada", tenant="acme"), CLERK), "ada lacks the scope pay"),
        (effective(ADA, msgspec.structs.replace(CLERK, scopes=())), "agent:clerk@1 lacks the scope pay"),
        (effective(ADA, CLERK, msgspec.structs.replace(ROOT, scopes=())), "the grant g0 lacks the scope pay"),
        (effective(ADA, CLERK, msgspec.structs.replace(ROOT, tools=("crm.*",))), "the grant g0 is not for pay"),
        (effective(ADA, CLERK, msgspec.structs.replace(ROOT, expires_us=5)), "the grant g0 has expired"),
        (
            effective(ADA, CLERK, msgspec.structs.replace(ROOT, subject="bob")),
            "the grant g0 is not for agent:clerk@1 acting for ada",
        ),
        (
            effective(ADA, CLERK, msgspec.structs.replace(ROOT, actor="agent:clerk@2")),
            "the grant g0 is not for agent:clerk@1 acting for ada",
        ),
        (
            effective(msgspec.structs.replace(ADA, tenant="rival"), CLERK),
            "agent:clerk@1 is of another tenant than ada",
        ),
    ],
)
def test_a_refusal_says_who_lacks_what(rights: Rights, said: str) -> None:
    assert rights.refusal(spec("pay", "pay"), 10) == said
    assert (not rights.refusal(spec("pay", "pay"), 10)) is (said == "")


def test_the_local_user_may_do_everything() -> None:
    agent = agent_principal("coder", 3, tenant="default", scopes=("*",))
    assert effective(LOCAL_USER, agent).refusal(spec("anything", "any.scope"), 0) == ""
    assert agent.id == "agent:coder@3"
