"""Approvals, denials, cancellation and expiry of one call, all at once from several processes: one takes effect."""

import random
from collections import Counter
from contextlib import AsyncExitStack

import pytest

from ostler import Runtime, Session
from ostler.domain.session.events import (
    AgentCancelled,
    ApprovalDenied,
    ApprovalExpired,
    ApprovalGranted,
    ApprovalRejected,
    CancelRequested,
    SessionEvent,
    ToolRequested,
)
from ostler.domain.session.state import ENDED
from tests.runtime.processes import Child, child
from tests.runtime.rivals import AGENT, CALL
from tests.servers import fresh_schema

ROUNDS = 50
PROCESSES = 2
SEED = 2026
DECISIONS = ("approve", "approve", "deny")
"""What the people of each process want of each call; and in every third round the session is cancelled as well."""
AROUND_US = (-20_000, 20_000)
"""People decide about a call at about this time before, or after, it expires."""

_SETTLE = (ApprovalGranted, ApprovalDenied, ApprovalExpired, CancelRequested, AgentCancelled)
"""What the first of can be the end of a question."""


@pytest.fixture(params=["sqlite", "postgres"])
def store(request, tmp_path):
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/ostler.db"
    else:
        with fresh_schema() as url:
            yield url


@pytest.mark.timeout(120)
async def test_of_all_that_is_decided_at_once_about_a_call_one_thing_takes_effect(store: str) -> None:
    chance = random.Random(SEED)
    async with AsyncExitStack() as stack:
        runtime = await stack.enter_async_context(Runtime.open(store, worker=False))
        rivals = [
            await stack.enter_async_context(child("tests.runtime.rivals", store, number)) for number in range(PROCESSES)
        ]
        for rival in rivals:
            await rival.until("ready")
        sessions = [await runtime.start(AGENT, f"round {number}") for number in range(ROUNDS)]
        for number, session in enumerate(sessions):
            at_us = await _expiry_us(session) + chance.randint(*AROUND_US)
            wishes = DECISIONS if number % 3 else (*DECISIONS, "cancel")
            for rival in rivals:
                await rival.tell(f"{session.id} {at_us} {' '.join(wishes)}")
        for rival in rivals:
            await rival.tell("go")
        for rival in rivals:
            await rival.until("decided")
        for session in sessions:
            await session.result(timeout_s=60)
        for rival in rivals:
            await rival.tell("stop")
            await rival.rest()
            assert await rival.ended() == 0
        settled = Counter([await _check(session, _said(rivals, session)) for session in sessions])
    assert len(settled) > 1, f"they hardly met: {settled}"


async def _expiry_us(session: Session) -> int:
    """When the question expires that the session is to ask."""
    while True:
        position = await session.head()
        state = await session.state()
        if state.question is not None and state.question.expires_us is not None:
            return state.question.expires_us
        assert state.status not in ENDED, "it has expired before anybody was told; give it more time"
        await session.changed(after=position)


def _said(rivals: list[Child], session: Session) -> Counter[str]:
    """How often the processes said what, of this session."""
    lines = [line for rival in rivals for line in rival.lines]
    return Counter(line.removesuffix(f" {session.id}") for line in lines if line.endswith(f" {session.id}"))


async def _check(session: Session, said: Counter[str]) -> str:
    """Checks what became of one question; returns the kind of the event that settled it."""
    events: list[SessionEvent] = [event for _, event in await session.facts()]
    settling = [event for event in events if isinstance(event, _SETTLE)]
    first, others = settling[0], settling[1:]
    # A cancellation ends what has been approved; but nothing else has an effect after the first.
    assert all(isinstance(event, CancelRequested | AgentCancelled) for event in others), settling
    is_granted = isinstance(first, ApprovalGranted)
    performed = [event for event in events if isinstance(event, ToolRequested) and event.call == CALL]
    assert len(performed) <= is_granted
    is_left_alone = not others  # by a cancellation, which may come before the call is begun or in the middle of it
    assert said["paid"] == len(performed) if is_left_alone else said["paid"] <= len(performed)
    assert not is_left_alone or len(performed) == is_granted
    counted = [event for event in events if isinstance(event, ApprovalGranted | ApprovalDenied)]
    assert said["won approve"] + said["won deny"] == len(counted) == isinstance(first, ApprovalGranted | ApprovalDenied)
    rejected = Counter(event.decision for event in events if isinstance(event, ApprovalRejected))
    assert (said["lost approve"], said["lost deny"]) == (rejected["grant"], rejected["deny"])
    assert sum(said[word] for word in said if word.endswith(("approve", "deny"))) == PROCESSES * len(DECISIONS)
    return type(first).__name__
