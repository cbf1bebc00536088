"""What holds for all sessions of a tenant: halting and releasing it, and policies on their way into use."""

import asyncio

import pytest

from ostler import Agent, Policy, Principal, Runtime, tool
from ostler.app.governance import Governing, in_force
from ostler.domain.governance import Change
from ostler.domain.identity import LOCAL_USER
from ostler.kernel.errors import Conflict, Halted, NotAllowed, NotFound
from ostler.testing import Scripted, calls

ANNA = Principal("anna", scopes=("govern",))
BERT = Principal("bert", scopes=("govern",))
NOBODY = Principal("nobody")


class Stall:
    """A tool that waits until it is let go, so that a test can act while a call is under way."""

    def __init__(self) -> None:
        self.entered, self.gate, self.performed = asyncio.Event(), asyncio.Event(), 0

        @tool(effect="read")
        async def wait() -> str:
            """Wait."""
            self.performed += 1
            self.entered.set()
            await self.gate.wait()
            return "waited"

        self.agent = Agent("clerk", tools=[wait], model=Scripted(calls(("wait", {})), calls(("wait", {})), "done"))


@pytest.fixture
def stall() -> Stall:
    return Stall()


@pytest.mark.parametrize("everywhere", [False, True], ids=["one tenant", "everywhere"])
async def test_a_halted_session_finishes_what_is_under_way_and_begins_nothing_until_it_is_released(
    tmp_path, stall, everywhere: bool
) -> None:
    async with Runtime.open(tmp_path / "store.db", agents=[stall.agent]) as runtime:
        session = await runtime.start(stall.agent, "wait twice")
        await stall.entered.wait()
        assert await runtime.halt("a strange bill", everywhere=everywhere, by=ANNA)
        assert not await runtime.halt("again", everywhere=everywhere, by=ANNA)
        stall.gate.set()
        await runtime.let_go(session.stream)
        state = await session.state()
        assert (state.tool_calls, state.steps, len(state.open), state.end) == (1, 1, 0, None)
        with pytest.raises(Halted, match="anna: a strange bill"):
            await runtime.start(stall.agent, "another")
        assert await runtime.release("it was ours", everywhere=everywhere, by=BERT)
        assert str(await session.result(timeout_s=20)) == "done"
    assert stall.performed == 2


async def test_a_halt_of_another_tenant_stops_nobody_here(tmp_path, stall) -> None:
    stall.gate.set()
    async with Runtime.open(tmp_path / "store.db", agents=[stall.agent]) as runtime:
        await runtime.halt("elsewhere", tenant="other")
        assert (await (await runtime.start(stall.agent, "go")).result(timeout_s=20)).is_success


async def test_a_worker_of_another_process_hears_of_a_halt_and_of_the_release(tmp_path, stall) -> None:
    stall.gate.set()
    async with (
        Runtime.open(tmp_path / "store.db", worker=False) as office,
        Runtime.open(tmp_path / "store.db", agents=[stall.agent]) as working,
    ):
        await office.halt("stop")
        session = None
        while session is None:
            try:
                session = await working.start(stall.agent, "go")
                break
            except Halted:
                await office.release()
        assert (await session.result(timeout_s=20)).is_success


async def test_only_those_who_govern_may_halt(tmp_path) -> None:
    async with Runtime.open(tmp_path / "store.db", worker=False) as runtime:
        with pytest.raises(NotAllowed, match="nobody lacks the scope 'govern'"):
            await runtime.halt("because", by=NOBODY)


def policy(version: int = 1) -> Policy:
    return Policy("house", version)


async def test_a_wider_policy_takes_the_approval_of_somebody_else(tmp_path) -> None:
    async with Runtime.open(tmp_path / "store.db", worker=False) as runtime:
        anna, bert = (Governing(runtime.parts, LOCAL_USER.tenant, who) for who in (ANNA, BERT))
        await anna.propose(policy(), "a" * 64, "wider", "the clerks need it")
        assert (await anna.shadow("aaaa")).stage == "shadow"
        assert [one.name for one in (await in_force(runtime.parts, LOCAL_USER.tenant)).shadow] == ["house"]
        with pytest.raises(Conflict, match="may let more pass"):
            await anna.apply("aaaa")
        with pytest.raises(NotAllowed, match="anna proposed this policy"):
            await anna.approve("aaaa", "mine")
        await bert.approve("aaaa", "fine")
        await anna.apply("aaaa")
        held = await in_force(runtime.parts, LOCAL_USER.tenant)
        assert ([one.name for one in held.layers], held.shadow) == (["house"], ())
        with pytest.raises(Conflict, match="is applied already"):
            await bert.approve("aaaa", "again")


async def test_a_narrower_policy_is_applied_by_itself_and_takes_the_place_of_the_one_before(tmp_path) -> None:
    async with Runtime.open(tmp_path / "store.db", worker=False) as runtime:
        anna = Governing(runtime.parts, LOCAL_USER.tenant, ANNA)
        changes: list[tuple[int, Change]] = [(1, "equal"), (2, "narrower")]
        for version, change in changes:
            await anna.propose(policy(version), str(version) * 64, change, "")
            await anna.apply(str(version))
        assert [one.version for one in (await in_force(runtime.parts, LOCAL_USER.tenant)).layers] == [2]
        bert = Governing(runtime.parts, LOCAL_USER.tenant, BERT)
        assert not await anna.withdraw("house", "not needed")
        with pytest.raises(NotAllowed, match="somebody else has to do it"):
            await anna.withdraw("house", "really")
        assert await bert.withdraw("house", "not needed")
        assert (await in_force(runtime.parts, LOCAL_USER.tenant)).layers == ()
        with pytest.raises(NotFound, match="No policy named 'house' is applied"):
            await anna.withdraw("house", "")
        with pytest.raises(Conflict, match="with other rules"):
            await anna.propose(policy(2), "3" * 64, "narrower", "")


async def test_what_is_rejected_is_never_applied(tmp_path) -> None:
    async with Runtime.open(tmp_path / "store.db", worker=False) as runtime:
        anna = Governing(runtime.parts, "*", ANNA)
        await anna.propose(policy(), "b" * 64, "equal", "")
        await anna.reject("bbbb", "no")
        with pytest.raises(Conflict, match="is rejected already"):
            await anna.apply("bbbb")


async def test_a_comparison_with_a_policy_that_is_no_longer_applied_counts_for_nothing(tmp_path) -> None:
    async with Runtime.open(tmp_path / "store.db", worker=False) as runtime:
        anna = Governing(runtime.parts, LOCAL_USER.tenant, ANNA)
        await anna.propose(policy(2), "2" * 64, "narrower", "")
        await anna.propose(policy(3), "3" * 64, "narrower", "")
        await anna.apply("3")
        with pytest.raises(Conflict, match="compared with another one"):
            await anna.apply("2")


async def test_who_is_of_a_tenant_governs_nothing_but_that_tenant(tmp_path) -> None:
    stranger = Principal("sam", tenant="acme", scopes=("*",))
    async with Runtime.open(tmp_path / "store.db", worker=False) as runtime:
        await runtime.halt("ours", tenant="acme", by=stranger)
        for everywhere in (True, False):
            with pytest.raises(NotAllowed, match="is of the tenant acme"):
                await runtime.halt("yours", everywhere=everywhere, by=stranger)
