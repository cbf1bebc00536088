"""Limits in memory: the whole contract, for the workers of one process."""

from collections.abc import Sequence
from typing import NamedTuple

from ostler.domain.capacity import PATIENCE_US, Limit, Place, Seen, Wait, judge, spend


class _Entry(NamedTuple):
    place: Place
    until_us: int
    is_held: bool


class MemoryLimiter:
    """A `Limiter` that lives and dies with the process. Whoever shares the object shares the limits."""

    def __init__(self) -> None:
        self._entries: dict[str, dict[str, _Entry]] = {}
        self._spent: dict[str, int] = {}

    async def take(self, limits: Sequence[Limit], place: Place, *, now_us: int) -> Wait:
        seen = [self._seen(limit, place, now_us) for limit in limits]
        wait = judge(limits, seen, now_us)
        for limit in limits:
            self._entries[limit.name].pop(place.holder, None)
        if wait.after_us:
            until_us = now_us + wait.after_us + PATIENCE_US
            self._entries[wait.limit][place.holder] = _Entry(place, until_us, False)
            return wait
        for limit, found in zip(limits, seen, strict=True):
            if limit.period_us:
                self._spent[limit.name] = spend(limit, found.spent_us, now_us)
            else:
                self._entries[limit.name][place.holder] = _Entry(place, place.until_us, True)
        return wait

    async def give_back(self, places: Sequence[Place]) -> None:
        for entries in self._entries.values():
            for place in places:
                entry = entries.get(place.holder)
                if entry is not None and entry.place.stay == place.stay:
                    del entries[place.holder]

    def occupied(self, *, now_us: int) -> int:
        """How many places are taken or waited for now, under all limits."""
        return sum(entry.until_us > now_us for entries in self._entries.values() for entry in entries.values())

    def _seen(self, limit: Limit, place: Place, now_us: int) -> Seen:
        entries = self._entries[limit.name] = {
            holder: entry for holder, entry in self._entries.get(limit.name, {}).items() if entry.until_us > now_us
        }
        others = [entry for holder, entry in entries.items() if holder != place.holder]
        held = sum(entry.is_held for entry in others)
        ahead = sum(not entry.is_held and entry.place.rank < place.rank for entry in others)
        return Seen(held, ahead, self._spent.get(limit.name, 0))
