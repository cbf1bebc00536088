"""The network between a process and what is outside of it, and the place where the store writes down what it took."""

import asyncio
import random
from collections.abc import Callable
from typing import Any

import msgspec

from ostler.kernel.errors import OstlerError, StoreBusy, StoreFull, StoreUnreachable
from ostler.kernel.event import Record, StreamId
from ostler.ports import Append, Claim, EventStore
from ostler.testing.sim.faults import LEASE_S, Faults
from ostler.testing.sim.history import Commit, History, Taken
from ostler.testing.sim.loop import Killed, Process, VirtualLoop

START_US = 1_700_000_000_000_000
DELAYS_S = (0.0, 0.001, 0.02, 0.4)
STALL_S = 10.0
FROZEN_S = (1.0, LEASE_S, 2 * LEASE_S)
LOSABLE = ("append", "beat", "claim", "read", "release", "retire", "streams", "vouch", "workers")
"""Calls whose reply may be lost after the store has done them."""
QUIET = ("wait", "tail", "head", "knocks", "close")
"""Calls on which nothing depends, and that are made all the time: never a place to crash."""


class Vault:
    """The store itself, where everything that it takes is written down, and where one record may rot."""

    def __init__(self, store: EventStore, history: History) -> None:
        self.store = store
        self.position = 0
        self._history = history

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    async def append(self, append: Append) -> int:
        position = await self.store.append(append)
        self.position = max(self.position, position)
        seq = append.expected + len(append.records)
        now = asyncio.get_running_loop().time()
        self._history.deeds.append(Commit(now, append.stream, seq, len(append.records), append.epoch))
        return position

    async def claim(self, worker: str, **wish: Any) -> list[Claim]:
        claims = await self.store.claim(worker, **wish)
        now = asyncio.get_running_loop().time()
        self._history.deeds += [Taken(now, claim.stream, claim.epoch, worker) for claim in claims]
        return claims

    async def read(self, stream: StreamId, **wish: Any) -> list[Record]:
        records = await self.store.read(stream, **wish)
        seq = self._history.rotten.get(stream)
        if seq is None or not any(record.seq == seq for record in records):
            return records
        self._history.handed_out.add(stream)
        return [rotted(record) if record.seq == seq else record for record in records]


def rotted(record: Record) -> Record:
    """The record as if it had happened at another time, and otherwise in good order."""
    return msgspec.structs.replace(record, at_us=record.at_us - 1)


class Lines:
    """What all wires of a run share."""

    def __init__(self, loop: VirtualLoop, chance: random.Random, faults: Faults, history: History) -> None:
        self.loop = loop
        self.chance = chance
        self.faults = faults
        self.history = history
        self.carrier = Process("network")
        self.cut_until: dict[Process, float] = {}

    def note(self, process: Process, what: str) -> None:
        self.history.note(self.loop.time(), process.name, what)

    def is_cut(self, process: Process) -> bool:
        return self.cut_until.get(process, 0.0) > self.loop.time()

    def crash_point(self, process: Process, moment: str) -> None:
        if process.is_mortal and self.chance.random() < self.faults.crash:
            self.note(process, f"crashes {moment}")
            self.loop.kill(process)
            raise Killed(moment)

    def kill(self, process: Process, *, within_s: float) -> None:
        """Let the process die a little later, whatever it is about then."""

        async def strike() -> None:
            await asyncio.sleep(within_s)
            if process.is_alive:
                self.note(process, "is brought down by a tool")
                self.loop.kill(process)

        self.loop.spawn(self.carrier, strike())

    def freeze(self, process: Process, how_long: float, where: str = "") -> None:
        """Let the process have no turns for so long."""
        now = self.loop.time()
        self.history.troubled.append((process.name, now, now + how_long))
        self.note(process, f"is frozen for {how_long:.1f} s{where}")
        self.loop.freeze(process)
        self.loop.spawn(self.carrier, self._thaw(process, how_long))

    async def _thaw(self, process: Process, how_long: float) -> None:
        await asyncio.sleep(how_long)
        self.loop.thaw(process)

    async def nap_point(self, process: Process, moment: str) -> None:
        if process.is_mortal and not process.is_frozen and self.chance.random() < self.faults.nap:
            self.freeze(process, self.chance.choice(FROZEN_S) * self.chance.random(), f" {moment}")
            await asyncio.sleep(0)


class Wire:
    """A port as one process reaches it: late, in vain, without an answer, or as the last thing it ever does."""

    def __init__(self, port: object, name: str, process: Process, lines: Lines) -> None:
        self._port = port
        self._name = name
        self._process = process
        self._lines = lines
        self._untold: list[Claim] = []
        """What was claimed and could not be told, which the store tells with the next claim."""

    def __getattr__(self, method: str) -> Any:
        found = getattr(self._port, method)
        if not asyncio.iscoroutinefunction(found):
            return found
        reach = self._reach_store if self._name == "store" else self._reach

        async def call(*args: Any, **kwargs: Any) -> Any:
            if not self._process.is_alive:
                raise Killed(self._process.name)
            if not self._lines.faults.is_on:
                result = await found(*args, **kwargs)
                if method == "claim":
                    result, self._untold = self._untold + result, []
            else:
                result = await reach(method, found, args, kwargs)
            if method == "append":
                kept: Append = args[0]
                self._lines.history.kept += [(one.stream, one.seq, one.hash) for one in kept.records]
            return result

        self.__dict__[method] = call
        return call

    async def _reach(self, method: str, found: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """A call of a tool or a model, whose own failures are its own."""
        self._lines.crash_point(self._process, f"before {self._name}.{method}")
        await self._lines.nap_point(self._process, f"before {self._name}.{method}")
        result = await found(*args, **kwargs)
        self._lines.crash_point(self._process, f"after {self._name}.{method}")
        return result

    async def _reach_store(self, method: str, found: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        lines, process, chance = self._lines, self._process, self._lines.chance.random
        faults = lines.faults
        if method in QUIET:
            if lines.is_cut(process):
                raise self._refusal(method, unreachable=True)
            return await found(*args, **kwargs)
        lines.crash_point(process, f"before store.{method}")
        await lines.nap_point(process, f"before store.{method}")
        if chance() < faults.delay:
            await self._be_late()
        if chance() < faults.stall:
            await self._stall(method)
        if lines.is_cut(process) or chance() < faults.refuse:
            raise self._refusal(method, unreachable=lines.is_cut(process))
        if chance() < faults.carried:
            result = await self._carry(found, args, kwargs)
        else:
            result = await found(*args, **kwargs)
        lines.crash_point(process, f"after store.{method}")
        if method == "claim":
            result, self._untold = self._untold + result, []
        if chance() < faults.lose_reply and method in LOSABLE:
            self._untold = result if method == "claim" else self._untold
            lines.note(process, f"never hears what came of store.{method}")
            raise StoreUnreachable("The connection broke before the reply.")
        await lines.nap_point(process, f"after store.{method}")
        if chance() < faults.delay:
            await self._be_late()
        return result

    async def _be_late(self) -> None:
        chance = self._lines.chance
        await asyncio.sleep(chance.choice(DELAYS_S) * chance.random())

    async def _stall(self, method: str) -> None:
        """The store does not answer for so long that leases run out meanwhile, and timeouts."""
        lines, how_long = self._lines, STALL_S * self._lines.chance.random()
        now = lines.loop.time()
        lines.history.troubled.append((self._process.name, now, now + how_long))
        lines.note(self._process, f"waits {how_long:.1f} s for store.{method}")
        await asyncio.sleep(how_long)

    def _refusal(self, method: str, *, unreachable: bool) -> OstlerError:
        if unreachable:
            return StoreUnreachable("The network is down.")
        self._lines.note(self._process, f"is refused store.{method}")
        kind = self._lines.chance.choice((StoreBusy, StoreUnreachable, StoreFull))
        return kind()

    async def _carry(self, found: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Through the network: whoever sent it may freeze, die or lose interest, and it arrives all the same."""
        loop = self._lines.loop
        reply: asyncio.Future[Any] = loop.create_future()

        async def travel() -> None:
            await self._be_late()
            try:
                result = await found(*args, **kwargs)
            except Exception as error:
                if not reply.done():
                    reply.set_exception(error)
                    reply.exception()  # it may be that nobody is left to ask
            else:
                if not reply.done():
                    reply.set_result(result)

        loop.spawn(self._lines.carrier, travel())
        return await reply


class WorkerClock:
    """The clock of one machine: virtual time, and how far it is off."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self.skew_us = 0

    def now_us(self) -> int:
        return START_US + int(self._loop.time() * 1_000_000) + self.skew_us


class Seeded:
    """`Entropy` that a seed determines."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def chance(self, size: int) -> bytes:
        return self._chance.randbytes(size)
