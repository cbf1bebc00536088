"""Carries out what is planned for memories in the long run: step by step, each as one append that loses to nobody."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import NamedTuple

import msgspec

from ostler.domain.memory.consolidation import WRITER, How, Step, again, may_be_worded, plan, worded
from ostler.domain.memory.events import MemoryRetracted
from ostler.domain.memory.memory import Kind, Memory
from ostler.domain.memory.scope import Scope
from ostler.domain.memory.settings import Consolidating
from ostler.domain.memory.writing import retractions
from ostler.kernel.errors import NotFound, OstlerError
from ostler.ports import Clock
from ostler.ports.memory import Entry, Filter
from ostler.runtime.memory.embedding import Everywhere, text_of
from ostler.runtime.memory.journal import Decided
from ostler.runtime.memory.memories import Memories
from ostler.runtime.memory.scenes import room_of

PAGE = 500
LOOKED_AT_MAX = 5_000
"""The newest memories of a scope, which are compared with each other; older ones were, when they were new."""
WEAK_MAX = 1_000
"""The weakest episodes, which may have faded."""
MEANT_MAX = 200
"""The newest memories whose meaning is compared with that of all others: each costs a vector."""
BESIDE = 5
"""How many are looked at of those that are nearest to one by their vectors."""
LOOK_S = 300.0
"""How often is looked whether a scope has grown."""

KINDS: tuple[Kind, ...] = ("episode", "fact")
"""Files are their owners' to change."""
LOOKED_AT = Filter(kinds=KINDS)
MERGED = "merged "
"""What an index says of how a memory ended that was merged, before the id of what was made of it."""
BY_DEFAULT = Consolidating()


class Worded(NamedTuple):
    """One text for several, and the session that found it."""

    text: str
    session: str


Wording = Callable[[Scope, Sequence[Memory]], Awaitable[Worded | None]]
"""Puts memories that say the same into one text; None if it cannot."""


class Became(msgspec.Struct, frozen=True):
    """What became of memories, or would: `into` was made of them, with this text; it is empty if they went."""

    how: How
    of: tuple[str, ...]
    into: str = ""
    text: str = ""


class Report(msgspec.Struct, frozen=True):
    """What a run did. So many steps were `dropped`, because what they were planned for was not so any more; there may
    be `more` to do.
    """

    scope: Scope
    looked_at: int
    became: tuple[Became, ...]
    dropped: int = 0
    more: bool = False


class Consolidation:
    """Consolidates scopes of one store, as their memories and the rules have it.

    Any number of processes may, at the same time as others write: a step is decided on what holds when it is written,
    and again if anybody was quicker. What memories mean is compared too, if their embedder can tell; then `wording`
    finds words for what is merged, and without it those of the newest stay.
    """

    def __init__(
        self, memories: Memories, clock: Clock, *, rules: Consolidating = BY_DEFAULT, wording: Wording | None = None
    ) -> None:
        self._memories = memories
        self._index = memories.index
        self._clock = clock
        self._rules = rules
        self._wording = wording
        self._half_life_us = memories.keeping.half_life_us
        self._grown: dict[Scope, int] = {}

    async def plan(self, scope: Scope) -> Report:
        """What a run would do now; nothing is done."""
        looked_at, steps = await self._planned(scope)
        now = steps[: self._rules.steps_max]
        return Report(scope, looked_at, tuple(_became(step, step.of) for step in now), more=len(now) < len(steps))

    async def consolidate(self, scope: Scope) -> Report:
        """Do what is to be done in a scope, as far as one run goes. Whoever dies in between has done whole steps."""
        looked_at, steps = await self._planned(scope)
        now = steps[: self._rules.steps_max]
        became, dropped = [], 0
        for planned in now:
            step = await self._worded(scope, planned)
            done = await self._memories.write(scope, partial(self._decided, scope, step))
            if done is None:
                dropped += 1
            else:
                became.append(done)
        if became and self._memories.embedding is not None:
            self._memories.embedding.kick(scope)
        return Report(scope, looked_at, tuple(became), dropped, more=len(now) < len(steps) and bool(became))

    async def undo(self, scope: Scope, made: str, *, by: str, because: str = "") -> list[str]:
        """Put the memories in force again that were merged into this one, which goes; of a fact that was promoted, only
        it goes, because they stayed. Returns the ids of those that are in force again. Of the same it is never made
        again. Raises `NotFound` if consolidation has not made it.
        """

        async def decide() -> Decided[list[str]]:
            found = await self._index.get([scope], [made])
            if not found or found[0].memory.source.writer != WRITER:
                raise NotFound(f"No memory {made} was made by consolidation here.")
            of = await self._index.get([scope], found[0].memory.source.of)
            back = [entry for entry in of if entry.ended_by == MERGED + made]
            events = await self._memories.restoring(scope, back, by, because, going=(made,))
            if found[0].until is None:
                events += retractions([made], "rolled_back", by, because)
            return events, [entry.memory.id for entry in back]

        return await self._memories.write(scope, decide)

    async def restore(self, scope: Scope, ids: Sequence[str], *, by: str, because: str = "") -> list[str]:
        """Put these in force again, whatever had ended that. What was merged comes back with the others that it was
        merged with, in place of what was made of them. Returns the ids of those that are in force again.
        """
        entries = await self._index.get([scope], ids)
        merged = {entry.memory.id: entry.ended_by.removeprefix(MERGED) for entry in entries if _is_merged(entry)}
        back: list[str] = []
        for made in dict.fromkeys(merged.values()):
            back += await self.undo(scope, made, by=by, because=because)
        others = [one for one in ids if one not in merged]
        return back + (await self._memories.restore(scope, others, by=by, because=because) if others else [])

    async def run(self, everywhere: Everywhere, *, after: int, trouble: Callable[[OstlerError], None]) -> None:
        """Consolidate, for ever, each scope that has grown by so many memories since it was last looked through."""
        while True:
            try:
                await self.look(await everywhere(), after=after)
            except OstlerError as error:
                trouble(error)
            except Exception as error:
                trouble(OstlerError(f"A defect of Ostler: {type(error).__name__}: {error}"))
            await asyncio.sleep(LOOK_S)

    async def look(self, scopes: Sequence[Scope], *, after: int) -> list[Report]:
        """Consolidate those of these scopes that have grown by so many; what was left to do in others, too."""
        reports = []
        applied = await self._index.applied(scopes)
        for scope in scopes:
            if applied.get(scope, 0) - self._grown.get(scope, 0) < after:
                continue  # it has fewer events since, and so fewer memories
            held = await self._index.held(scope)
            count = held.closed + sum(held.in_force.values())
            if count - self._grown.get(scope, 0) >= after:
                report = await self.consolidate(scope)
                reports.append(report)
                if not report.more:
                    self._grown[scope] = count + len(report.became)
        return reports

    async def _planned(self, scope: Scope) -> tuple[int, list[Step]]:
        """How many were looked at, and what is to become of them."""
        await self._memories.catch_up([scope])
        entries = await self._newest(scope)
        weak = await self._index.weakest(scope, "episode", half_life_us=self._half_life_us, limit=WEAK_MAX)
        entries = list({entry.memory.id: entry for entry in (*entries, *weak)}.values())
        near = await self._near(scope, entries[:MEANT_MAX])
        now_us = self._clock.now_us()

        def steps(known: Sequence[str] = ()) -> list[Step]:
            return plan(entries, self._rules, now_us=now_us, half_life_us=self._half_life_us, near=near, known=known)

        planned = await asyncio.to_thread(steps)
        made = await self._index.get([scope], [step.into.id for step in planned if step.into is not None])
        if made:
            planned = await asyncio.to_thread(steps, [entry.memory.id for entry in made])
        return len(entries), planned

    async def _newest(self, scope: Scope) -> list[Entry]:
        found: list[Entry] = []
        before: int | None = None
        while len(found) < LOOKED_AT_MAX:
            page = await self._index.page([scope], LOOKED_AT, before=before, limit=PAGE)
            found += page
            if len(page) < PAGE:
                break
            before = page[-1].position
        return found

    async def _near(self, scope: Scope, entries: Sequence[Entry]) -> list[tuple[str, str]]:
        """Pairs of memories that mean nearly the same, one of each among these. None where nobody can tell."""
        embedding = self._memories.embedding
        if embedding is None or embedding.kind != "semantic" or not entries:
            return []
        vectors = await embedding.documents([text_of(entry) for entry in entries])
        pairs = []
        for entry, vector in zip(entries, vectors or (), strict=False):
            hits = await self._index.vectors([scope], embedding.fingerprint, vector, LOOKED_AT, limit=BESIDE + 1)
            pairs += [
                (entry.memory.id, hit.id) for hit in hits if hit.id != entry.memory.id and hit.score >= self._rules.near
            ]
        return pairs

    async def _worded(self, scope: Scope, step: Step) -> Step:
        """The step, with better words for what is merged if somebody finds some."""
        if self._wording is None:
            return step
        memories = [entry.memory for entry in await self._index.get([scope], step.of)]
        if not may_be_worded(step, memories):
            return step
        found = await self._wording(scope, memories)
        return step if found is None else worded(step, memories, found.text, session=found.session)

    async def _decided(self, scope: Scope, step: Step) -> Decided[Became | None]:
        """What the step comes to as things stand now; nothing if it is not right any more."""
        into = step.into
        if into is not None:
            known = await self._index.get([scope], [into.id])
            same = await self._index.same([scope], [into.digest]) if step.how == "promoted" else []
            if known or any(set(entry.memory.labels) <= set(into.labels) for entry in same):
                return (), None
            if step.how == "promoted" and not await self._has_room(scope, into):
                return (), None
        entries = await self._index.get([scope], step.of)
        now_us = self._clock.now_us()
        events = again(step, entries, self._rules, now_us=now_us, half_life_us=self._half_life_us)
        if not events:
            return (), None
        gone = tuple(one for event in events if isinstance(event, MemoryRetracted) for one in event.ids)
        return events, _became(step, gone or step.of)

    async def _has_room(self, scope: Scope, memory: Memory) -> bool:
        """Whether a scope may hold this beside all that it holds."""
        keeping, room = self._memories.keeping, room_of(await self._index.held(scope)).plus(memory)
        return room.others <= keeping.memories_max and room.text_bytes <= keeping.bytes_max


def _is_merged(entry: Entry) -> bool:
    return entry.until is not None and entry.ended_by.startswith(MERGED)


def _became(step: Step, of: tuple[str, ...]) -> Became:
    return Became(step.how, of) if step.into is None else Became(step.how, of, step.into.id, step.into.text)
