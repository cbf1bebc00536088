"""The directory of a tenant: what its events make of it, and who may change what."""

from collections.abc import Callable

import msgspec
import pytest

from ostler.domain.directory import (
    IDENTITY_CODEC,
    WRITE,
    Directory,
    IdentityEvent,
    add,
    change,
    evolve,
    issue,
    remove,
    revoke,
)
from ostler.domain.grant import Grant, Wanted, attenuate
from ostler.domain.identity import LOCAL_USER, Principal, agent_principal
from ostler.kernel.errors import Conflict, DefinitionInvalid, GrantWidened, NotAllowed, NotFound, OstlerError

OWNER = msgspec.structs.replace(LOCAL_USER, tenant="acme")
ADA = Principal("ada", "user", "acme", ("crm.*", "pay"), ("finance",))
BOB = Principal("bob", "user", "acme", ("crm.read",))
CLERK = agent_principal("clerk", 1, tenant="acme", scopes=("*",))
ROOT = Grant("g0", "acme", "ada", "agent:clerk@1", ("crm.*",), expires_us=1000, depth=2)


def directory(*principals: Principal) -> Directory:
    empty = Directory("acme")
    return evolve(empty, [add(empty, principal, OWNER) for principal in principals])


def after(before: Directory, *events: IdentityEvent) -> Directory:
    """As it is after the events were written and read."""
    return evolve(before, [IDENTITY_CODEC.decode(IDENTITY_CODEC.encode(event)) for event in events])


def test_a_directory_is_what_its_events_say() -> None:
    now = directory(ADA, BOB)
    assert now.principal("ada") == ADA
    now = after(now, change(now, "bob", OWNER, roles=("risk",)))
    assert now.principal("bob") == msgspec.structs.replace(BOB, roles=("risk",))
    now = after(now, change(now, "bob", OWNER, scopes=()))
    assert now.principal("bob").scopes == ()
    now = after(now, remove(now, "ada", OWNER, "gone"))
    assert list(now.principals) == ["bob"]
    with pytest.raises(NotFound):
        now.principal("ada")


def test_folding_at_once_and_one_by_one_is_the_same() -> None:
    start = Directory("acme")
    events: list[IdentityEvent] = [add(start, ADA, OWNER), add(start, BOB, OWNER)]
    events += [issue(evolve(start, events), ROOT, OWNER, 0), remove(evolve(start, events), "ada", OWNER)]
    step = start
    for event in events:
        step = after(step, event)
    assert step == evolve(start, events)
    assert start == Directory("acme")


def test_the_owner_of_the_store_is_always_there() -> None:
    assert directory().principal("local") == OWNER
    with pytest.raises(DefinitionInvalid, match="always there"):
        add(directory(), Principal("local", tenant="acme"), OWNER)


def test_who_is_not_there_is_guessed() -> None:
    with pytest.raises(NotFound) as missing:
        directory(ADA, BOB).principal("adda")
    assert missing.value.hint == "Did you mean 'ada'?"


@pytest.mark.parametrize(
    "principal",
    [
        Principal(""),
        Principal("a b"),
        Principal("a/b"),
        Principal("a\nb"),
        Principal("agent:clerk@1"),
        Principal("clerk", "agent"),
        Principal("ada", scopes=("a b",)),
        Principal("ada", roles=("*",)),
        Principal("ada", roles=("",)),
    ],
    ids=repr,
)
def test_what_is_no_principal_is_refused(principal: Principal) -> None:
    with pytest.raises(DefinitionInvalid):
        add(directory(), principal, OWNER)


def test_nobody_is_added_twice() -> None:
    with pytest.raises(Conflict):
        add(directory(ADA), ADA, OWNER)


ADMIN = Principal("admin", "user", "acme", (WRITE, "crm.*"), ("finance",))


@pytest.mark.parametrize(
    "act",
    [
        lambda now: add(now, Principal("eve", tenant="acme", scopes=("pay",)), ADMIN),
        lambda now: add(now, Principal("eve", tenant="acme", scopes=("*",)), ADMIN),
        lambda now: add(now, Principal("eve", tenant="acme", roles=("risk",)), ADMIN),
        lambda now: change(now, "bob", ADMIN, scopes=("pay",)),
        lambda now: change(now, "bob", ADMIN, roles=("risk",)),
        lambda now: change(now, "ada", ADMIN, scopes=()),
        lambda now: remove(now, "ada", ADMIN),
        lambda now: add(now, Principal("eve", tenant="acme"), BOB),
        lambda now: change(now, "bob", BOB, scopes=("crm.read", "pay")),
        lambda now: remove(now, "ada", BOB),
        lambda now: issue(now, ROOT, BOB, 0),
        lambda now: issue(now, ROOT, ADMIN, 0),
    ],
)
def test_nobody_gives_what_they_do_not_have_or_takes_from_those_who_have_more(
    act: Callable[[Directory], IdentityEvent],
) -> None:
    with pytest.raises(NotAllowed):
        act(directory(ADA, BOB))


def test_who_may_change_the_directory_does_so_within_their_own_rights() -> None:
    now = directory(ADA, BOB)
    assert add(now, Principal("eve", "user", "acme", ("crm.read",), ("finance",)), ADMIN).by == "admin"
    assert remove(now, "bob", ADMIN).by == "admin"


def test_a_grant_is_in_force_until_it_or_one_before_it_is_revoked_or_expires() -> None:
    now = directory(ADA)
    child = attenuate(ROOT, Wanted("agent:helper@1", expires_us=500), grant_id="g1")
    now = after(now, issue(now, ROOT, ADA, 0))
    now = after(now, issue(now, child, CLERK, 0))
    assert (now.fault("g0", 499), now.fault("g1", 499)) == ("", "")
    assert (now.fault("g0", 500), now.fault("g1", 500)) == ("", "the grant g1 has expired")
    assert now.fault("g1", 1000) == "the grant g0 has expired"
    revoked = after(now, revoke(now, "g0", ADA, "done"))
    assert revoked.fault("g1", 0) == "the grant g0 was revoked (done)"
    gone = after(now, remove(now, "ada", OWNER))
    assert gone.fault("g1", 0) == "the grant g0 was revoked (ada was removed)"
    back = after(gone, add(gone, ADA, OWNER))
    assert back.fault("g0", 0) == "the grant g0 was revoked (ada was removed)"


@pytest.mark.parametrize(
    ("grant", "by", "error"),
    [
        (msgspec.structs.replace(ROOT, scopes=("hr.read",)), ADA, GrantWidened),
        (msgspec.structs.replace(ROOT, scopes=("*",)), OWNER, GrantWidened),
        (msgspec.structs.replace(ROOT, tenant="rival"), ADA, DefinitionInvalid),
        (msgspec.structs.replace(ROOT, expires_us=0), ADA, DefinitionInvalid),
        (msgspec.structs.replace(ROOT, depth=99), ADA, DefinitionInvalid),
        (msgspec.structs.replace(ROOT, subject="eve"), OWNER, NotFound),
        (msgspec.structs.replace(ROOT, parent="g9"), ADA, NotFound),
    ],
    ids=range(7),
)
def test_a_grant_that_gives_too_much_is_not_issued(grant: Grant, by: Principal, error: type[OstlerError]) -> None:
    with pytest.raises(error):
        issue(directory(ADA), grant, by, 0)


def test_a_grant_is_handed_on_by_its_holder_and_only_narrower() -> None:
    now = directory(ADA, BOB)
    now = after(now, issue(now, ROOT, ADA, 0))
    child = attenuate(ROOT, Wanted("agent:helper@1"), grant_id="g1")
    assert issue(now, child, CLERK, 0).by == "agent:clerk@1"
    with pytest.raises(NotAllowed):
        issue(now, child, agent_principal("stranger", 1, tenant="acme", scopes=("*",)), 0)
    with pytest.raises(GrantWidened):
        issue(now, msgspec.structs.replace(child, depth=2), CLERK, 0)
    with pytest.raises(NotAllowed, match="expired"):
        issue(now, msgspec.structs.replace(child, expires_us=2000), CLERK, 1000)
    with pytest.raises(Conflict):
        issue(now, ROOT, ADA, 0)


def test_a_grant_is_revoked_by_those_it_came_from_and_once() -> None:
    now = directory(ADA, BOB)
    now = after(now, issue(now, ROOT, ADA, 0))
    child = attenuate(ROOT, Wanted("agent:helper@1"), grant_id="g1")
    now = after(now, issue(now, child, CLERK, 0))
    for by in (ADA, CLERK, OWNER):
        assert revoke(now, "g1", by).id == "g1"
    for by in (BOB, ADMIN, agent_principal("helper", 1, tenant="acme", scopes=())):
        with pytest.raises(NotAllowed):
            revoke(now, "g1", by)
    now = after(now, revoke(now, "g1", ADA))
    with pytest.raises(Conflict):
        revoke(now, "g1", ADA)
    with pytest.raises(NotFound):
        revoke(now, "g7", ADA)


@pytest.mark.parametrize(
    "act",
    [
        lambda now, by: add(now, Principal("eve", tenant="acme"), by),
        lambda now, by: change(now, "ada", by, roles=()),
        lambda now, by: remove(now, "ada", by),
        lambda now, by: issue(now, msgspec.structs.replace(ROOT, id="g1"), by, 0),
        lambda now, by: revoke(now, "g0", by),
    ],
)
@pytest.mark.parametrize("by", [ADA, OWNER])
def test_who_has_the_same_name_and_rights_in_another_tenant_changes_nothing(
    act: Callable[[Directory, Principal], IdentityEvent], by: Principal
) -> None:
    now = directory(ADA)
    now = after(now, issue(now, ROOT, ADA, 0))
    with pytest.raises(NotAllowed, match="is of the tenant rival"):
        act(now, msgspec.structs.replace(by, tenant="rival"))


def test_the_owner_of_the_store_stays_who_it_is() -> None:
    with pytest.raises(NotAllowed, match="always the same"):
        change(directory(), "local", OWNER, roles=("finance",))
    with pytest.raises(NotAllowed, match="always the same"):
        remove(directory(), "local", OWNER)


def test_an_agent_lends_nothing_of_its_own() -> None:
    own = msgspec.structs.replace(ROOT, subject=CLERK.id)
    with pytest.raises(NotAllowed, match="hand on what was granted"):
        issue(directory(ADA), own, CLERK, 0)
