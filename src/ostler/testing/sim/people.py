"""People: they start sessions, answer questions, pause, cancel and change their minds, at the worst moments."""

import asyncio
import random

from ostler.domain.gate import digest_of_arguments
from ostler.domain.identity import LOCAL_USER
from ostler.domain.session import commands as command
from ostler.domain.session.commands import SessionCommand
from ostler.kernel.errors import OstlerError, StoreCorrupt, StoreError
from ostler.kernel.event import StreamId
from ostler.kernel.ids import CHANCE_BYTES, make_id
from ostler.ports import Clock
from ostler.runtime.journal import Journal
from ostler.testing.sim.cast import AGENTS
from ostler.testing.sim.faults import Faults
from ostler.testing.sim.history import History, Wish
from ostler.testing.sim.outside import AMOUNTS, MODEL

PATIENCE = 3
"""How often a person tries again when the store does not answer."""
_WISHES = ("approve", "approve", "approve", "deny", "send", "pause", "resume", "resume", "cancel", "kill", "fork")
_WEIGHTS = (6, 6, 6, 3, 3, 2, 3, 3, 2, 0.5, 0.7)


class Person:
    """Somebody with a journal, in a process of their own or in that of a worker."""

    def __init__(
        self, journal: Journal, clock: Clock, chance: random.Random, faults: Faults, *, history: History
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._chance = chance
        self._faults = faults
        self._history = history
        self._seen: list[tuple[str, str]] = []
        """Questions seen before, as call and digest: what a stale page shows."""

    async def start(self) -> StreamId:
        """Begin a session, and try again until the store says that it has."""
        now = self._clock.now_us()
        name = make_id("ses", now // 1000, self._chance.randbytes(CHANCE_BYTES))
        agent = self._chance.choice(AGENTS)
        stream = StreamId(LOCAL_USER.tenant, name)
        start = command.Start(now, name, agent, MODEL, "Do something.", LOCAL_USER)
        while True:
            wish = self._wish(stream, "start")
            try:
                started = await self._journal.start(LOCAL_USER.tenant, start)
            except OstlerError as error:
                wish.error = error.code
                if not (isinstance(error, StoreError) and error.retryable):
                    return stream  # it has begun already: only the reply was lost
                await asyncio.sleep(0.5)
            else:
                wish.seq = started.seq
                return stream

    async def meddle(self, stream: StreamId) -> str:
        """Want something of this session; returns what."""
        kind = self._chance.choices(_WISHES, _WEIGHTS)[0]
        for _ in range(self._chance.choice((1, 1, 1, 2))):  # now and then twice in a row
            for _ in range(PATIENCE):
                if await self._try(stream, kind):
                    break
                await asyncio.sleep(self._chance.random())
        return kind

    async def settle(self, stream: StreamId) -> None:
        """Say whatever this session is waiting to hear: in fair weather, so that it must come to its end."""
        try:
            state = (await self._journal.load(stream)).state
        except StoreCorrupt:  # they are told, and that is all there is to do
            return
        if state is None or state.end is not None:
            return
        if state.pause is not None:
            await self._try(stream, "resume")
        if state.question is not None:
            await self._try(stream, self._chance.choice(("approve", "deny", "cancel")))

    async def _try(self, stream: StreamId, kind: str) -> bool:
        """False if the store did not answer."""
        wish = self._wish(stream, kind)
        try:
            if kind == "fork":
                await self._fork(stream, wish)
            else:
                await self._tell(stream, kind, wish)
        except StoreError as error:
            wish.error = error.code
            return not error.retryable
        except OstlerError as error:
            wish.error = error.code
        return True

    async def _tell(self, stream: StreamId, kind: str, wish: Wish) -> None:
        session = await self._journal.load(stream)
        question = session.state.question if session.state is not None else None
        if question is not None:
            self._seen.append((question.call, question.digest))
        if kind in ("approve", "deny"):
            if question is None and not self._seen:
                wish.error = "nothing to answer"
                return
            wish.call, wish.digest = self._what_is_on_the_page(
                (question.call, question.digest) if question is not None else None
            )
        if self._chance.random() < 0.3:
            await asyncio.sleep(self._chance.random())  # they think, and the session goes on
        wish.events = await self._journal.execute(session, self._command(kind, wish))
        wish.seq = session.seq

    def _what_is_on_the_page(self, current: tuple[str, str] | None) -> tuple[str, str | None]:
        """The call and the digest that the person means: what is asked now, or what an old page still shows."""
        if current is None:
            return self._chance.choice(self._seen)
        if self._chance.random() < self._faults.stale_people:
            return current[0], digest_of_arguments({"amount": self._chance.randrange(AMOUNTS)})
        return current[0], current[1] if self._chance.random() < 0.7 else None

    def _command(self, kind: str, wish: Wish) -> SessionCommand:
        now, by = self._clock.now_us(), LOCAL_USER
        match kind:
            case "approve":
                return command.Approve(now, wish.call or "", by, digest=wish.digest)
            case "deny":
                return command.Deny(now, wish.call or "", by)
            case "send":
                return command.Send(now, f"Hurry, {self._chance.randrange(1_000_000)}.", by)
            case "pause":
                return command.Pause(now, by)
            case "resume":
                return command.Resume(now, by)
            case "cancel":
                return command.Cancel(now, by)
            case _:
                return command.Kill(now, by)

    async def _fork(self, stream: StreamId, wish: Wish) -> None:
        now = self._clock.now_us()
        name = make_id("ses", now // 1000, self._chance.randbytes(CHANCE_BYTES))
        forked = await self._journal.fork(stream, name, by=LOCAL_USER, at_us=now, seq=None)
        wish.stream, wish.seq = forked.stream, forked.seq

    def _wish(self, stream: StreamId, kind: str) -> Wish:
        wish = Wish(asyncio.get_running_loop().time(), stream, kind)
        self._history.wishes.append(wish)
        return wish
