"""What is written when something is remembered: what it takes the place of, what it contradicts, what has to go for it.

Pure: whoever writes reads what a scope holds that bears on it (`Scene`), and appends the events of a decision, all or
none.
"""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

import msgspec

from ostler.domain.memory.check import check_memory
from ostler.domain.memory.events import (
    MemoryContradicted,
    MemoryEvent,
    MemoryRecalled,
    MemoryRemembered,
    MemoryRestored,
    MemoryRetracted,
    MemorySuperseded,
    Why,
)
from ostler.domain.memory.memory import Kind, Memory, Relation, Source, memory_id, normal
from ostler.domain.memory.scope import Scope
from ostler.domain.memory.settings import Keeping
from ostler.domain.memory.strength import rank_in_strength
from ostler.domain.provenance import UNTRUSTED
from ostler.domain.screening.detectors import BUILTIN, Detectors
from ostler.kernel.errors import QuotaExceeded, UsageError

Outcome = Literal["new", "known", "repeated"]
"""It is remembered from now on; it was in force already, as the memory that is named; this call had remembered it."""

EVICTED_MAX = 1_000
"""How many go in one decision after there has come to be less room; those that come next take further ones along."""


class Wish(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is to be remembered; see `Memory`. Without `happened_us` it happens now."""

    kind: Kind
    text: str
    source: Source
    labels: tuple[str, ...] = ()
    importance: float = 0.5
    tags: tuple[str, ...] = ()
    key: str = ""
    relation: Relation | None = None
    caused_by: str = ""
    is_pinned: bool = False
    happened_us: int | None = None
    valid_from_us: int | None = None
    valid_to_us: int | None = None


class Remembered(msgspec.Struct, frozen=True, omit_defaults=True):
    """What came of remembering something: the memory that is there now, and what it did to others.

    Of a call that is repeated only the id is told. Its own id is among the `evicted` if all that there was room for is
    stronger than it.
    """

    id: str
    outcome: Outcome
    superseded: tuple[str, ...] = ()
    contradicts: tuple[str, ...] = ()
    evicted: tuple[str, ...] = ()


class Room(msgspec.Struct, frozen=True):
    """How much is in force in a scope: episodes, facts and files together, and the bytes of all their texts."""

    episodes: int = 0
    others: int = 0
    text_bytes: int = 0

    def plus(self, memory: Memory, *, sign: int = 1) -> "Room":
        is_episode = memory.kind == "episode"
        return Room(
            self.episodes + sign * is_episode,
            self.others + sign * (not is_episode),
            self.text_bytes + sign * memory.size,
        )

    def minus(self, memory: Memory) -> "Room":
        return self.plus(memory, sign=-1)


NOTHING_HELD = Room()


class Decision(NamedTuple):
    """The events to append for one wish (none if nothing changes), and what to tell of it."""

    events: list[MemoryEvent]
    remembered: Remembered


class Scene:
    """What a scope holds that bears on what is to be remembered in it. What is decided is taken in, for the next wish.

    `ids` were remembered here before, whether they are in force or not. `memories` are in force, the oldest first: all
    with the digest or the key of one that is to be remembered, or the same relation of the same subject. `weak` are
    the weakest episodes that may go, weakest first, and no more than `evictions` go.
    """

    def __init__(
        self,
        keeping: Keeping,
        *,
        ids: Iterable[str] = (),
        memories: Iterable[Memory] = (),
        weak: Sequence[Memory] = (),
        evictions: int = 0,
        room: Room = NOTHING_HELD,
    ) -> None:
        self.keeping = keeping
        self.ids = set(ids)
        self.room = room
        self.evictions = evictions
        self._found: dict[tuple[str, ...], dict[str, Memory]] = {}
        self._weak: dict[str, Memory] = {}
        self._weakest: list[tuple[float, int, str]] = []
        self._number = 0
        for memory in memories:
            self._put(memory)
        for memory in weak:
            self._may_go(memory)

    def same(self, memory: Memory) -> list[Memory]:
        """What has the same words, and is of the same kind and key."""
        return list(self._found.get(("digest", memory.digest), {}).values())

    def rivals(self, memory: Memory) -> list[Memory]:
        """What has its key, or states another object of its relation."""
        found = dict(self._found.get(("key", memory.key), {})) if memory.key else {}
        if memory.relation is not None:
            stated = self._found.get(_edge(memory.relation), {})
            found |= {name: other for name, other in stated.items() if _differ(memory.relation, other.relation)}
        return list(found.values())

    def weakest(self) -> Memory | None:
        """The weakest that may go, of equals the oldest; None if none may."""
        while self._weakest and self._weakest[0][2] not in self._weak:
            heapq.heappop(self._weakest)
        return self._weak[self._weakest[0][2]] if self._weakest else None

    def take(self, memory: Memory) -> None:
        """It is in force from here on."""
        self.ids.add(memory.id)
        self.room = self.room.plus(memory)
        self._put(memory)
        if memory.kind == "episode" and not memory.is_pinned:
            self._may_go(memory)

    def drop(self, memory: Memory) -> None:
        """It is not in force any more."""
        self.room = self.room.minus(memory)
        self._weak.pop(memory.id, None)
        for place in _places(memory):
            self._found.get(place, {}).pop(memory.id, None)

    def _put(self, memory: Memory) -> None:
        for place in _places(memory):
            self._found.setdefault(place, {})[memory.id] = memory

    def _may_go(self, memory: Memory) -> None:
        self._number += 1
        self._weak[memory.id] = memory
        rank = rank_in_strength(memory.importance, memory.happened_us, half_life_us=self.keeping.half_life_us)
        heapq.heappush(self._weakest, (rank, self._number, memory.id))


def wished(scope: Scope, wish: Wish, *, key: str, at_us: int, detectors: Detectors = BUILTIN) -> Memory:
    """The memory that is wished for, with the id that every attempt of the same call gives it.

    Raises `UsageError` and `NotAllowed` as `check_memory` does.
    """
    if not key:
        raise UsageError("A call without a key cannot be told from its next attempt.", field="key")
    memory = Memory(
        id=memory_id(scope, key),
        kind=wish.kind,
        text=wish.text,
        source=wish.source,
        happened_us=at_us if wish.happened_us is None else wish.happened_us,
        labels=tuple(sorted(set(wish.labels))),
        importance=wish.importance,
        tags=tuple(dict.fromkeys(wish.tags)),
        key=wish.key,
        relation=wish.relation,
        caused_by=wish.caused_by,
        is_pinned=wish.is_pinned,
        valid_from_us=wish.valid_from_us,
        valid_to_us=wish.valid_to_us,
    )
    check_memory(memory, at_us=at_us, detectors=detectors)
    return memory


def decide(memory: Memory, scene: Scene, *, at_us: int) -> Decision:
    """What remembering this means, where the scope holds what `scene` says; the scene is moved on.

    Raises `QuotaExceeded` if there is no room for it; then nothing has changed.
    """
    if memory.id in scene.ids:
        return Decision([], Remembered(memory.id, "repeated"))
    rivals, same = scene.rivals(memory), scene.same(memory)
    memory = _ended_by(memory, rivals)
    known = next((other for other in same if _says_the_same(memory, other)), None)
    if known is not None:
        return Decision(_told_again(memory, known), Remembered(known.id, "known"))
    closed, contradicted = _among(memory, rivals, at_us)
    closed += [other for other in same if other not in closed and _vouches_for(memory, other)]
    _check_room(memory, closed, scene)
    for other in closed:
        scene.drop(other)
    scene.take(memory)
    evicted = _evict(memory, scene)
    events: list[MemoryEvent] = [MemoryRemembered(memory)]
    events += [MemorySuperseded(other.id, by=memory.id) for other in closed]
    events += [MemoryContradicted(memory.id, other.id, because) for other, because in contradicted]
    if evicted:
        events.append(MemoryRetracted(evicted, "evicted", by="runtime", source=memory.source))
    told = Remembered(
        memory.id,
        "new",
        superseded=tuple(other.id for other in closed),
        contradicts=tuple(other.id for other, _ in contradicted),
        evicted=evicted,
    )
    return Decision(events, told)


def retractions(ids: Sequence[str], why: Why, by: str, because: str, source: Source | None = None) -> list[MemoryEvent]:
    """That these are in force no more. A reason stands with one memory alone, so that it can be erased with it."""
    return [MemoryRetracted(some, why, by, because, source) for some in _with_reason(ids, because)]


def restorations(ids: Sequence[str], by: str, because: str) -> list[MemoryEvent]:
    """That these are in force again; with a reason as `retractions`."""
    return [MemoryRestored(some, by, because) for some in _with_reason(ids, because)]


def _with_reason(ids: Sequence[str], because: str) -> list[tuple[str, ...]]:
    if because:
        return [(name,) for name in ids]
    return [tuple(ids)] if ids else []


def _told_again(memory: Memory, known: Memory) -> list[MemoryEvent]:
    """That another session has told what is known: its log holds the words too, which erasing them has to know."""
    session = memory.source.session
    return [MemoryRecalled((known.id,), memory.source.call)] if session and session != known.source.session else []


def _says_the_same(memory: Memory, other: Memory) -> bool:
    """Whether nothing would be added to what the other one says, which has the same words.

    What happened in another session has happened again. What untrusted text says is not known until somebody trusted
    says it. A fact that holds at other times is another.
    """
    if UNTRUSTED in other.labels and UNTRUSTED not in memory.labels:
        return False
    if memory.kind == "episode":
        session = memory.source.session
        return other.source.session == session and (bool(session) or other.happened_us == memory.happened_us)
    return _stated(memory) == _stated(other)


def _vouches_for(memory: Memory, other: Memory) -> bool:
    """Whether it takes the place of one that says the same, but was made of untrusted text."""
    is_news = UNTRUSTED in other.labels and UNTRUSTED not in memory.labels
    return memory.kind != "episode" and is_news and _stated(memory) == _stated(other)


def _ended_by(memory: Memory, rivals: Iterable[Memory]) -> Memory:
    """It, or if it begins to hold before one of the others does, and is not known to end, as ending where that begins:
    it is history.
    """
    begin = memory.valid_from_us
    if begin is None or memory.valid_to_us is not None:
        return memory
    later = [other.valid_from_us for other in rivals if other.valid_from_us is not None and _replaces(memory, other)]
    end = min((moment for moment in later if moment > begin), default=None)
    return memory if end is None else msgspec.structs.replace(memory, valid_to_us=end)


def _among(memory: Memory, rivals: Sequence[Memory], at_us: int) -> tuple[list[Memory], list[tuple[Memory, str]]]:
    """What it takes the place of; and what it contradicts, and why. The rest of its rivals it does not concern.

    What is over by now, or was over then, and is not known to have been true at the same time, stays beside it. One
    that untrusted text had a part in closes none without; only a file is always what it was last written to be.
    """
    closed: list[Memory] = []
    contradicted: list[tuple[Memory, str]] = []
    for other in rivals:
        is_history = _is_over(memory, at_us) or _is_over(other, at_us)
        if not _meet(memory, other) or (is_history and None in (memory.valid_from_us, other.valid_from_us)):
            continue
        if not _replaces(memory, other):
            if other.relation is not None and other.relation.is_single:
                contradicted.append((other, "the other was stated as the only one of its relation"))
        elif is_history:
            contradicted.append((other, "both are said to have been true at the same time"))
        elif UNTRUSTED in memory.labels and UNTRUSTED not in other.labels and not _are_files(memory, other):
            contradicted.append((other, "what untrusted text had a part in takes the place of nothing trusted"))
        else:
            closed.append(other)
    return closed, contradicted


def are_rivals(one: Memory, other: Memory) -> bool:
    """Whether not both can be in force without contradicting one another."""
    if one.id == other.id or not _meet(one, other):
        return False
    if one.key and one.key == other.key:
        return True
    if one.relation is None or other.relation is None or _edge(one.relation) != _edge(other.relation):
        return False
    return _differ(one.relation, other.relation) and (one.relation.is_single or other.relation.is_single)


def _replaces(memory: Memory, other: Memory) -> bool:
    """Whether there is to be only one of the two: they have the same key, or the relation has one value at a time."""
    is_named = bool(memory.key) and memory.key == other.key
    return is_named or (memory.relation is not None and memory.relation.is_single)


def _meet(one: Memory, other: Memory) -> bool:
    """Whether there may be a moment at which both are true."""
    return not (_ends_before(one, other) or _ends_before(other, one))


def _ends_before(one: Memory, other: Memory) -> bool:
    """Whether it is known that one has ended when the other begins."""
    return one.valid_to_us is not None and other.valid_from_us is not None and one.valid_to_us <= other.valid_from_us


def _is_over(memory: Memory, at_us: int) -> bool:
    return memory.valid_to_us is not None and memory.valid_to_us <= at_us


def _are_files(one: Memory, other: Memory) -> bool:
    return one.kind == other.kind == "file"


def _check_room(memory: Memory, closed: Sequence[Memory], scene: Scene) -> None:
    """Raises `QuotaExceeded` if there is no room. What takes the place of as much as it needs always has some."""
    keeping, before, after = scene.keeping, scene.room, scene.room.plus(memory)
    for other in closed:
        after = after.minus(other)
    if after.others > keeping.memories_max and after.others > before.others:
        raise _full("memories_max", f"{before.others} facts and files", before.others, keeping.memories_max)
    if after.text_bytes > keeping.bytes_max and after.text_bytes > before.text_bytes:
        raise _full("bytes_max", f"texts of {before.text_bytes} bytes", before.text_bytes, keeping.bytes_max)
    is_one_more = memory.is_pinned and after.episodes > keeping.episodes_max and after.episodes > before.episodes
    if is_one_more and scene.weakest() is None:
        raise _full("episodes_max", f"{before.episodes} pinned episodes", before.episodes, keeping.episodes_max)


def _full(limit: str, holding: str, holds: int, most: int) -> QuotaExceeded:
    return QuotaExceeded(
        f"There is no room for more memories here: this scope holds {holding}, and {limit} is {most}.",
        hint=f"Forget what is not needed any more, or raise {limit}.",
        limit=limit,
        holds=holds,
        most=most,
    )


def _evict(memory: Memory, scene: Scene) -> tuple[str, ...]:
    """The weakest episodes, as many as there are too many: the newcomer itself, if it is the weakest.

    It is recorded all the same that it came and went, so that a call that is repeated finds it, and nobody wonders.
    """
    evicted: list[str] = []
    while memory.kind == "episode" and scene.room.episodes > scene.keeping.episodes_max and scene.evictions > 0:
        weakest = scene.weakest()
        if weakest is None or len(evicted) == EVICTED_MAX:
            break
        scene.drop(weakest)
        scene.evictions -= 1
        evicted.append(weakest.id)
    return tuple(evicted)


def _places(memory: Memory) -> Iterator[tuple[str, ...]]:
    """By what it is found again."""
    yield "digest", memory.digest
    if memory.key:
        yield "key", memory.key
    if memory.relation is not None:
        yield _edge(memory.relation)


def _edge(relation: Relation) -> tuple[str, ...]:
    return "edge", normal(relation.subject), relation.name


def _differ(one: Relation, other: Relation | None) -> bool:
    return other is not None and normal(one.object) != normal(other.object)


def _stated(memory: Memory) -> object:
    """What is said beside the words, in a form in which two can be compared."""
    times = memory.valid_from_us, memory.valid_to_us
    if (relation := memory.relation) is None:
        return times
    named = normal(relation.subject), normal(relation.name), normal(relation.object)
    return times, named, relation.weight, relation.is_single, relation.properties
