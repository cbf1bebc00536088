"""What must hold after every fault: the log of a real store, and the ledgers of all processes, against I1 to I11.

Most of it is the checker of the simulator, given what really happened. What only ledgers can tell is judged here.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from ostler.domain.boot import WORKER_QUEUE
from ostler.domain.session.events import ToolRequested
from ostler.domain.session.state import ENDED
from ostler.kernel.event import Record, StreamId, first_broken
from ostler.ports import EventStore, StreamInfo
from ostler.testing.sim import checker
from ostler.testing.sim.history import Asked, Commit, Effect, History, Tale, tale
from tests.faults.cast import EFFECTS

EVERYTHING = 10_000_000


class Line(msgspec.Struct, frozen=True, gc=False):
    """One line of a ledger."""

    process: str
    what: str
    at_s: float
    facts: list[Any]


def ledgers(folder: Path) -> list[Line]:
    """What all processes noted, each in its order; the last line of a killed one may be half of one."""
    lines = []
    for path in sorted(folder.glob("*.ledger")):
        for text in path.read_bytes().split(b"\n")[:-1]:
            what, at_s, *facts = msgspec.json.decode(text)
            lines.append(Line(path.stem, what, at_s, facts))
    return sorted(lines, key=lambda line: line.at_s)


async def judge(store: EventStore, folder: Path, *, are_over: bool = True) -> list[str]:
    """Everything that is wrong with what is in the store; with `are_over`, also with sessions that have not ended."""
    records = await store.tail(limit=EVERYTHING)
    infos: list[StreamInfo] = []
    for tenant in sorted({record.stream.tenant for record in records}):
        infos += await store.streams(tenant, limit=EVERYTHING)
    return list(problems(records, infos, ledgers(folder), are_over=are_over))


def problems(
    records: Sequence[Record], infos: Sequence[StreamInfo], lines: Sequence[Line], *, are_over: bool
) -> Iterator[str]:
    streams: dict[StreamId, list[Record]] = defaultdict(list)
    for record in records:
        streams[record.stream].append(record)
    history = _history(streams, infos, lines)
    for name, check in checker.INVARIANTS.items():
        if name not in ("I2", "I9"):  # see below; and nobody but the simulator knows when a cancel was heard of
            yield from (f"{name}: {found}" for found in check(history))
    yield from _positions(records)
    yield from _kept(streams, lines)
    yield from _one_writer(streams, lines)
    yield from _own_intents(history, lines)
    for info in infos:
        if info.standing.queue != WORKER_QUEUE and are_over and info.standing.status not in ENDED:
            yield f"I10: {info.stream.name}/{info.version} has not ended: {info.standing}, held by {info.worker}"
        if info.version != len(streams[info.stream]):
            yield f"I2: {info.stream.name} is said to have {info.version} events, and has {len(streams[info.stream])}"


def _history(streams: dict[StreamId, list[Record]], infos: Sequence[StreamInfo], lines: Sequence[Line]) -> History:
    history = History()
    effects: dict[tuple[str, str, int], Effect] = {}
    for line in lines:
        match line.what, line.facts:
            case "kept", [tenant, name, seq, digest, _, epoch]:
                stream = StreamId(tenant, name)
                history.kept.append((stream, seq, bytes.fromhex(digest)))
                history.deeds.append(Commit(line.at_s, stream, seq, 1, epoch))
            case "begin", [tool, key, attempt, digest, head]:
                effect = Effect(line.at_s, head, line.process, tool, EFFECTS[tool], key, attempt, digest)
                history.effects.append(effect)
                effects[line.process, key, attempt] = effect
            case "done", [_, key, attempt]:
                effects[line.process, key, attempt].done_s = line.at_s
            case "asked", [key, tokens, head]:
                history.asked.append(Asked(line.at_s, head, line.process, key, tokens))
            case _:
                pass
    # A reconcilable call that was in flight when its worker died or froze may happen after it was asked about; what
    # is judged is a repetition by those to whom nothing has happened, and here something happens to everybody.
    history.troubled = [(process, 0.0, EVERYTHING) for process in {line.process for line in lines}]
    for info in infos:
        if info.standing.queue == WORKER_QUEUE:
            continue
        told = tale(info.stream, streams[info.stream])
        told.status, told.due_us, told.worker = info.standing.status, info.standing.due_us, info.worker
        history.tales.append(told)
    return history


def _positions(records: Sequence[Record]) -> Iterator[str]:
    """I2: positions have no gaps, and every chain holds, those of workers too."""
    for place, record in enumerate(records, 1):
        if record.position != place:
            yield f"I2: the event at place {place} of the log has position {record.position}"
            return


def _kept(streams: dict[StreamId, list[Record]], lines: Sequence[Line]) -> Iterator[str]:
    """I1, I2, I11: what was acknowledged is where it was acknowledged, and all of every chain holds."""
    for stream, records in streams.items():
        broken = first_broken(records)
        if broken is not None:
            yield f"I11: {stream.name}/{broken}: its hash does not fit"
    for line in lines:
        if line.what != "kept":
            continue
        tenant, name, seq, digest, position, _ = line.facts
        records = streams.get(StreamId(tenant, name), [])
        if len(records) < seq or records[seq - 1].hash.hex() != digest:
            yield f"I1: {name}/{seq} was acknowledged to {line.process}, and is not in the log"
        elif records[seq - 1].position != position:
            yield f"I2: {name}/{seq} was acknowledged at {position}, and is at {records[seq - 1].position}"


def _one_writer(streams: dict[StreamId, list[Record]], lines: Sequence[Line]) -> Iterator[str]:
    """I2: nobody writes under a claim that another has followed."""
    fences: dict[str, dict[int, int]] = defaultdict(dict)
    for line in lines:
        if line.what == "kept" and line.facts[5] is not None:
            fences[line.facts[1]][line.facts[2]] = line.facts[5]
    for name, epochs in fences.items():
        last = 0
        for seq in sorted(epochs):
            if epochs[seq] < last:
                yield f"I2: {name}/{seq} was written under claim {epochs[seq]}, after claim {last}"
            last = max(last, epochs[seq])
    claims: dict[str, list[int]] = defaultdict(list)
    for line in lines:
        if line.what == "claim":
            claims[line.facts[1]].append(line.facts[2])
    for name, given in claims.items():
        if len(set(given)) != len(given):
            yield f"I2: {name} was claimed twice under one number: {given}"


def _own_intents(history: History, lines: Sequence[Line]) -> Iterator[str]:
    """I5: whoever begins an effect has itself been told that the intent, or the retry, is in the log."""
    kept = {(line.process, line.facts[1], line.facts[2]) for line in lines if line.what == "kept"}
    tales = {told.stream.name: told for told in history.tales}
    for effect in history.effects:
        session, _, call = effect.key.rpartition("/")
        if session in tales and not any(
            (effect.process, session, seq) in kept for seq in _intents(tales[session], call)
        ):
            yield f"I5: {effect.key} of {effect.tool} was begun by {effect.process}, which has no intent of it"


def _intents(told: Tale, call: str) -> list[int]:
    """Where the call was begun or tried again."""
    return [
        seq
        for seq, event in enumerate(told.events, 1)
        if getattr(event, "call", None) == call
        and (isinstance(event, ToolRequested) or type(event).__name__ == "CallRetried")
    ]


def begun_after_being_taken(lines: Sequence[Line]) -> list[str]:
    """Effects that a process began although another had already written to the session under a later claim.

    A process that is frozen between making sure and doing cannot help it; one that merely stood still can.
    """
    found = []
    epochs: dict[tuple[str, str], int] = {}
    written: dict[str, int] = defaultdict(int)
    for line in lines:
        if line.what == "claim":
            epochs[line.process, line.facts[1]] = line.facts[2]
        elif line.what == "kept" and line.facts[5] is not None:
            written[line.facts[1]] = max(written[line.facts[1]], line.facts[5])
        elif line.what == "begin":
            session = line.facts[1].rpartition("/")[0]
            mine = epochs.get((line.process, session), 0)
            if mine < written[session]:
                found.append(f"{line.facts[1]} by {line.process} under claim {mine}, after claim {written[session]}")
    return found
