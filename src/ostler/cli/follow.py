"""Following a session in the foreground: until it ends, or until only a person can move it on."""

import asyncio
import sys
import termios
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from typing import NamedTuple

import ostler
from ostler.app.service import Runtime
from ostler.app.session import Session
from ostler.cli.live import happening
from ostler.cli.look import question
from ostler.cli.output import blocks, console, say
from ostler.cli.signals import tell_troubles
from ostler.cli.speech import Hear, hearing
from ostler.cli.words import short
from ostler.domain.identity import Principal
from ostler.domain.scheduling import WorkerSettings
from ostler.domain.session.approvals import objection, objection_to_grant
from ostler.domain.session.evolve import evolve
from ostler.domain.session.state import State, under_way, waits_for_capacity
from ostler.kernel.event import Record
from ostler.views.sessions import Approval, SessionView, approval

GRACE_S = 5.0
"""How long calls under way may take to finish when the person in front of it wants to leave."""
LOOK_AGAIN_S = 1.0

Show = Callable[[Record, bool], None]
"""Shows a record; told whether it was there before."""

Answer = Callable[[Session, Approval], Awaitable[bool]]
"""Sees to it that a question is answered; False leaves it open."""


class Followed(NamedTuple):
    """How a session stands when there is no more to see, and how long it has been going, waits included."""

    view: SessionView
    span_us: int


async def follow(
    runtime: Runtime, session: Session, show: Show, answer: Answer, *, after: int = 0, hear: Hear | None = None
) -> Followed:
    """Run the session here, unless another worker holds it, and show it until it ends or a person is needed.

    Events up to `after` are known to the one who watches; `hear` gets what the model says while it says it. Leaving the
    runtime stops the worker and lets go of it.
    """
    tell_troubles(runtime)
    known = max(after, (await session.version()))
    await runtime.work(WorkerSettings(concurrency=1, grace_s=GRACE_S, only=session.stream, version=ostler.__version__))
    state: State | None = None
    last_us = 0
    async with hearing(session, hear), aclosing(session.records()) as records:
        async for record in records:
            show(record, record.seq <= after)
            event = happening(record)
            state, last_us = evolve(state, event.event, event.at_us), event.at_us
            if record.seq >= known and _needs_person(state) and not await _is_moved_on(session, answer):
                break
    return Followed(await session.view(), last_us - state.started_us if state is not None else 0)


async def _is_moved_on(session: Session, answer: Answer) -> bool:
    """Whether somebody has moved the session on, or does so now. A question that has expired moves on by itself."""
    state = await session.state()
    if not _needs_person(state) or _is_expired(state, session.now_us()):
        return True
    asked = approval(state)
    return state.pause is None and asked is not None and await answer(session, asked)


def _needs_person(state: State) -> bool:
    """Nothing is under way, and nothing begins before a person says something."""
    is_blocked = state.pause is not None or state.question is not None
    is_idle = not under_way(state) or waits_for_capacity(state)
    return is_blocked and is_idle and state.end is None and state.cancelling_by is None


def _is_expired(state: State, now_us: int) -> bool:
    question = state.question
    is_over = question is not None and question.expires_us is not None and now_us >= question.expires_us
    return is_over and state.pause is None


async def leave_open(session: Session, asked: Approval) -> bool:
    """Nobody is here who could answer."""
    return False


async def approve_unseen(session: Session, asked: Approval, *, by: Principal) -> bool:
    """Approve whatever is asked, and say so in the log; what is for others to approve is left to them."""
    if await _is_for_others(session, asked, by):
        return False
    await session.approve(asked.call, by=by, reason="run with --yes")
    return True


async def ask_person(session: Session, asked: Approval, *, by: Principal) -> bool:
    """Ask on the terminal, until it is answered there or elsewhere. What was typed before the question is no answer.

    What is for others to approve is not asked about here.
    """
    if await _is_for_others(session, asked, by):
        return False
    console(err=True).print(blocks([question(asked)]))
    with suppress(termios.error):
        termios.tcflush(sys.stdin, termios.TCIFLUSH)
    sys.stderr.write(f"Approve call {asked.call} ({short(asked.reason or asked.rule, 160)})? [y]es, [n]o, [l]ater: ")
    sys.stderr.flush()
    line = asyncio.create_task(_line())
    elsewhere = asyncio.create_task(_answered(session, asked.call))
    try:
        await asyncio.wait((line, elsewhere), return_when=asyncio.FIRST_COMPLETED)
        if not line.done():
            say("answered elsewhere")
            return True
        word = line.result().strip().lower()
    finally:
        line.cancel()
        elsewhere.cancel()
    if word in ("y", "yes"):
        await session.approve(asked.call, by=by)
    elif word in ("n", "no"):
        await session.deny(asked.call, by=by)
    else:
        return False
    return True


async def _is_for_others(session: Session, asked: Approval, by: Principal) -> bool:
    """Whether an approval of `by` would not count, which is said."""
    state = await session.state()
    problem = objection(state, asked.call, by, session.now_us()) or objection_to_grant(state, by)
    if problem is not None:
        say(f"Call {asked.call} is not for {by.id} to approve: {problem}.")
    return problem is not None


async def _line() -> str:
    """The next line of standard input, without a thread that could not be stopped."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(sys.stdin, ready.set)
    try:
        await ready.wait()
        return sys.stdin.readline()
    finally:
        loop.remove_reader(sys.stdin)


async def _answered(session: Session, call: str) -> None:
    """Return when this question is no longer asked."""
    while True:
        position = await session.head()
        question = (await session.state()).question
        if question is None or question.call != call:
            return
        await session.changed(after=position, timeout_s=LOOK_AGAIN_S)
