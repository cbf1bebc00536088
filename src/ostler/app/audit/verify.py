"""Judging an audit file, on any machine and without a store: what holds, what fails, and what that proves."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Literal

import msgspec

from ostler.app.audit.export import Cut, export
from ostler.app.audit.lines import Gone, Header, Hidden, Line, Removed, Root, Shown
from ostler.app.audit.note import VerifierKey, is_log_of, read_note
from ostler.app.audit.tree import Tree
from ostler.domain.audit import Checkpoint, read_checkpoint
from ostler.domain.housekeeping import (
    HOUSEKEEPING,
    HOUSEKEEPING_CODEC,
    MemoriesErased,
    Remains,
    SessionErased,
    SessionsRemoved,
)
from ostler.domain.memory.scope import PREFIX
from ostler.kernel.errors import UnknownEvent, UsageError
from ostler.kernel.event import ERASED, GENESIS, StreamId, link, timestamp
from ostler.kernel.merkle import Frontier, Range, is_consistent, leaf_hash, subtrees
from ostler.ports import EventStore

PROBLEMS_MAX = 20
"""Problems of one kind that are told; of the others, the number."""

_COMPLETE = "Nothing of the period, between these two checkpoints, was left out."
_UNTOUCHED = "Nothing that was there when this checkpoint was signed has been altered, taken away or added since."
SIGNED = "The holder of the key has vouched for these sizes and roots."
INCLUDED = "This event is in the log that was signed for, exactly as it is shown."


class Check(msgspec.Struct, frozen=True):
    """One thing that was looked at. `proves` is what follows if it holds; nothing follows from what is unchecked."""

    name: str
    outcome: Literal["holds", "fails", "unchecked"]
    found: str
    proves: str


class Outside(msgspec.Struct, frozen=True):
    """A checkpoint that was kept elsewhere: where it was read from, and the whole note."""

    source: str
    note: str


class _Place(msgspec.Struct, frozen=True, gc=False):
    """How far a stream was read. `erased` counts its events whose content was erased; of memories, 0."""

    seq: int = 0
    hash: bytes = GENESIS
    erased: int = 0


class _Found(msgspec.Struct, frozen=True):
    index: int
    line: Shown


class Verifier:
    """Takes the lines of a file one after another, and says at the end what they prove.

    `keys` are those whose signatures count; without any, no signature is checked. `outside` are checkpoints that were
    kept elsewhere, `decisions` are events, as (session, number), to be shown with their place. `is_store` says that
    the lines come from a store and not from a file: its last events need no signature yet.
    """

    def __init__(
        self,
        *,
        keys: Sequence[VerifierKey] = (),
        outside: Sequence[Outside] = (),
        decisions: Sequence[tuple[str, int]] = (),
        is_store: bool = False,
    ) -> None:
        self.keys = keys
        self._outside = outside
        self._is_store = is_store
        self._decisions: dict[tuple[str, int], _Found | None] = dict.fromkeys(decisions)
        self._header: Header | None = None
        self._tree = Frontier()
        self._roots: list[Root] = []
        self._streams: dict[str, _Place] = {}
        self._events = 0
        self._broken = _Problems()
        self._doubtful: set[str] = set()
        self._withheld = 0
        self._gone = 0
        self._claims: dict[bytes, Removed] = {}
        self._gone_claims: list[Removed] = []
        self._notes: dict[str, SessionErased] = {}
        self._removed: set[Remains] = set()
        self._erased_memories: set[tuple[str, int]] = set()
        self._noted_memories: set[tuple[str, int]] = set()

    def sizes(self) -> list[int]:
        """The sizes at which checkpoints that were kept elsewhere speak of the log."""
        found = []
        for one in self._outside:
            with suppress(UsageError):
                found.append(read_checkpoint(read_note(one.note).text).size)
        return found

    @property
    def asks_more(self) -> bool:
        """Whether there is anything to be compared or shown beside what is taken."""
        return bool(self._outside or self._decisions)

    def take(self, line: Line) -> None:
        """Take the next line. Raises `UsageError` for lines that no export writes."""
        match line:
            case Header():
                self._header = line
            case Root():
                self._roots.append(line)
            case Removed():
                self._claims[bytes.fromhex(line.head)] = line
            case Shown():
                self._take_event(line)
            case Gone():
                for one in line.hashes:
                    self._take_gone(one)
            case Hidden():
                self._take_hidden(line)

    def finish(self) -> list[Check]:
        """Everything that was looked at, after the last line."""
        header = self._header
        assert header is not None, "a header was taken first"
        root = self._tree.root()
        grown = self._grown(header, root)
        tree = self._check_tree(header, root)
        checks = [
            self._check_chains(header),
            tree,
            self._check_growth(grown),
            self._check_signatures(header),
            self._check_period(header),
            self._check_removed(header),
            self._check_erased(),
        ]
        if not self._outside:
            checks.append(
                Check("rewritten", "unchecked", "no checkpoint that was kept elsewhere was given", _UNTOUCHED)
            )
        checks += [self._check_outside(one, header, grown) for one in self._outside]
        return checks + [self._check_decision(name, found, tree) for name, found in self._decisions.items()]

    def _take_event(self, line: Shown) -> None:
        assert self._header is not None, "a header was taken first"
        before = self._streams.get(line.stream, _Place())
        data, own, seq = bytes(line.event), bytes.fromhex(line.hash), before.seq + 1
        is_erased = data == ERASED
        if line.seq != seq:
            self._doubtful.add(line.stream)
            self._broken.add(f"{line.stream}: event {seq} is missing, {line.seq} stands in its place")
        elif not is_erased and own != link(
            before.hash, StreamId(self._header.tenant, line.stream), seq, line.at_us, data
        ):
            self._doubtful.add(line.stream)
            self._broken.add(f"{line.stream}: event {seq} was altered, or one before it: its hash does not fit")
        if is_erased and line.stream.startswith(PREFIX):
            self._erased_memories.add((line.stream, line.seq))
            is_erased = False
        self._streams[line.stream] = _Place(line.seq, own, before.erased + is_erased)
        if (line.stream, line.seq) in self._decisions:
            self._decisions[line.stream, line.seq] = _Found(self._tree.size, line)
        if line.stream == HOUSEKEEPING:
            self._take_note(data)
        self._events += 1
        self._tree.add(leaf_hash(own))

    def _take_note(self, data: bytes) -> None:
        try:
            event = HOUSEKEEPING_CODEC.decode(data)
        except UnknownEvent:
            return  # altered, which its hash tells, or of a kind of tomorrow, which accounts for nothing here
        match event:
            case SessionErased():
                self._notes[event.remains.session] = event
            case SessionsRemoved():
                self._removed.update(event.sessions)
            case MemoriesErased():
                self._noted_memories.update((event.stream, seq) for seq in event.events)

    def _take_gone(self, one: bytes) -> None:
        self._gone += 1
        if one in self._claims:
            self._gone_claims.append(self._claims[one])
        self._tree.add(leaf_hash(one))

    def _take_hidden(self, line: Hidden) -> None:
        assert self._header is not None, "a header was taken first"
        start = self._tree.size
        end = start + line.leaves
        parts = subtrees(Range(start, end))
        if len(parts) != len(line.roots):
            raise UsageError(f"{line.leaves} hidden leaves after leaf {start} take {len(parts)} roots.")
        for part, root in zip(parts, line.roots, strict=True):
            self._tree.add(root, part.level)
        if self._header.sessions is None:
            self._withheld += max(0, min(end, self._header.end) - max(start, self._header.start))

    def _grown(self, header: Header, root: bytes) -> dict[int, bool]:
        """Whether the tree under `root` begins with what the file says that it was, by size."""
        grown: dict[int, bool] = {}
        for one in self._roots:
            is_beginning = is_consistent(one.size, one.root, header.size, root, one.proof)
            grown[one.size] = grown.get(one.size, True) and is_beginning
        return grown

    def _check_chains(self, header: Header) -> Check:
        return Check(
            "chains",
            "fails" if self._broken.count else "holds",
            str(self._broken) or f"{_count(self._events, 'event')} in {_count(len(self._streams), 'stream')}",
            f"Each event of {header.tenant} says what it said, and follows on the one before it in its stream.",
        )

    def _check_tree(self, header: Header, root: bytes) -> Check:
        claimed = [one.root for one in self._roots if one.size == header.size]
        if self._tree.size != header.size:
            problem = f"the file holds {self._tree.size:,} of {header.size:,} leaves"
        elif not claimed:
            problem = f"the file names no root of all {header.size:,} leaves"
        elif any(one != root for one in claimed):
            problem = "the root of these leaves is another: an event was altered, moved, added or left out"
        else:
            problem = ""
        return Check(
            "tree",
            "fails" if problem else "holds",
            problem or f"{_count(header.size, 'leaf', 'leaves')} under root {root.hex()}",
            "The events stand in the log where they stand here, and nothing stands between them but what is hidden.",
        )

    def _check_growth(self, grown: dict[int, bool]) -> Check:
        wrong = sorted(size for size, has_grown in grown.items() if not has_grown)
        return Check(
            "growth",
            "fails" if wrong else "holds",
            f"the log does not begin with what was signed at {wrong[0]:,} events"
            if wrong
            else f"{_count(len(grown), 'root')}, each of a beginning of the log",
            "From each checkpoint to the next, events were added and nothing else was done.",
        )

    def _check_signatures(self, header: Header) -> Check:
        problems, signers, covered = _Problems(), set(), 0
        for one in self._roots:
            if one.note:
                said, problem, signer = self._read_signed(one.note, header.tenant)
                if said is not None and (said.size, said.root) != (one.size, one.root):
                    problem = problem or "it says something else than the file claims"
                if problem:
                    problems.add(f"checkpoint at {one.size:,} events: {problem}")
                elif signer:
                    signers.add(signer)
                    covered = max(covered, one.size)
        notes = sum(bool(one.note) for one in self._roots)
        found = str(problems) or _count(notes, "checkpoint")
        if problems.count:
            return Check("signatures", "fails", found, SIGNED)
        if not self.keys:
            return Check("signatures", "unchecked", f"{found}, and no key to check them with", SIGNED)
        found += f", signed as {', '.join(sorted(signers)) or 'nobody'}"
        if covered < header.size:
            found += f"; the last {header.size - covered:,} events are not signed for"
            return Check("signatures", "unchecked" if self._is_store else "fails", found, SIGNED)
        return Check("signatures", "holds", found, SIGNED)

    def _read_signed(self, whole: str, tenant: str) -> tuple[Checkpoint | None, str, str]:
        """What a note says, what is wrong with it, and who has signed it (nobody without keys)."""
        try:
            note = read_note(whole)
            said = read_checkpoint(note.text)
        except UsageError as error:
            return None, error.message, ""
        if not is_log_of(said.origin, tenant):
            return said, f"it is of another log, {said.origin}", ""
        signer = note.signer(self.keys)
        if self.keys and (signer is None or signer.name != said.origin):
            return said, f"none of the given keys has signed it (it is signed as {note.signatures[0][0]})", ""
        return said, "", signer.name if signer else ""

    def _check_period(self, header: Header) -> Check:
        span = f"leaves {header.start:,} to {header.end:,} of {header.size:,}"
        if header.sessions is not None:
            found = f"only {', '.join(header.sessions)}, and none of the others"
            return Check("period", "unchecked", found, _COMPLETE)
        sizes = {0, *(one.size for one in self._roots)}
        is_cut = header.start <= header.end and {header.start, header.end} <= sizes
        problem = "" if is_cut else f"{span} are not cut at checkpoints"
        if self._withheld:
            problem = f"{_count(self._withheld, 'event')} of {span} withheld"
        return Check("period", "fails" if problem else "holds", problem or span, _COMPLETE)

    def _check_removed(self, header: Header) -> Check:
        """Of a whole log the numbers are equal; sessions at the edges of a period were removed with what is beyond."""
        is_whole = (header.start, header.end) == (0, header.size)
        noted = {(one.session, one.events, one.head) for one in self._removed}
        claims = self._gone_claims if is_whole else list(self._claims.values())
        accounted = sum(one.events for one in claims if (one.session, one.events, one.head) in noted)
        is_accounted = self._gone == accounted if is_whole else self._gone <= accounted
        return Check(
            "removed",
            "holds" if is_accounted else "fails",
            f"{_count(self._gone, 'event')} gone from the log, {accounted:,} accounted for by its housekeeping",
            "What is gone was removed with whole sessions, by somebody who wrote down that, when and why.",
        )

    def _check_erased(self) -> Check:
        problems, count = _Problems(), 0
        for name, place in self._streams.items():
            if not place.erased:
                continue
            count += 1
            note = self._notes.get(name)
            if place.erased != place.seq:
                problems.add(f"{name}: {place.erased} of {place.seq} events are erased, and not all")
            elif note is None or note.remains.events < place.seq:
                problems.add(f"{name}: its content is gone, and nothing is written of who erased it")
            elif note.remains.events == place.seq and note.remains.head != place.hash.hex():
                problems.add(f"{name}: what was erased is not what is written of it")
        for name, seq in sorted(self._erased_memories - self._noted_memories):
            problems.add(f"{name}: the content of event {seq} is gone, and nothing is written of who erased it")
        memories = len(self._erased_memories)
        found = _count(count, "session") + (f" and {_count(memories, 'event')} of memories" if memories else "")
        return Check(
            "erased",
            "fails" if problems.count else "holds",
            str(problems) or f"{found} erased, each with a note",
            "What cannot be read was erased by somebody who wrote down that, when and why. What it said is not proved.",
        )

    def _check_outside(self, one: Outside, header: Header, grown: dict[int, bool]) -> Check:
        said, problem, _ = self._read_signed(one.note, header.tenant)
        roots = {known.root for known in self._roots if said is not None and known.size == said.size}
        if said is None or problem:
            found = problem
        elif said.size > header.size:
            problem = found = (
                f"it was signed at {said.size:,} events, and here are {header.size:,}: the log was cut short, "
                "or this was written before the checkpoint"
            )
        elif not roots:
            problem = found = f"nothing here says what the log was at {said.size:,} events"
        elif roots != {said.root} or not grown[said.size]:
            problem = found = f"the first {said.size:,} events are others than those that were signed for: rewritten"
        else:
            found = f"the first {said.size:,} events are those that were signed for" + (
                "" if self.keys else "; its signature was not checked"
            )
        return Check(f"checkpoint {one.source}", "fails" if problem else "holds", found, _UNTOUCHED)

    def _check_decision(self, name: tuple[str, int], found: _Found | None, tree: Check) -> Check:
        what = f"decision {name[0]}/{name[1]}"
        if found is None:
            return Check(what, "fails", "it is not here", INCLUDED)
        line = found.line
        text = found_text(found.index, line.at_us, line.hash, bytes(line.event))
        is_proved = tree.outcome == "holds" and line.stream not in self._doubtful
        return Check(what, "holds" if is_proved else "fails", text, INCLUDED)


class _Problems:
    """The first problems of one kind, and how many there are."""

    def __init__(self) -> None:
        self.count = 0
        self._told: list[str] = []

    def add(self, problem: str) -> None:
        self.count += 1
        if self.count <= PROBLEMS_MAX:
            self._told.append(problem)

    def __str__(self) -> str:
        more = self.count - len(self._told)
        return "; ".join(self._told) + (f"; and {more:,} more" if more else "")


async def verify_store(
    store: EventStore,
    tree: Tree,
    tenant: str,
    verifier: Verifier,
    *,
    progress: Callable[[int], None] = lambda leaves: None,
) -> list[Check]:
    """Judge the whole log of a tenant, as it is now. Raises `StoreCorrupt` where log and tree contradict each other."""
    await tree.catch_up()
    size = (await tree.frontier(tenant)).size
    cut = Cut(tenant, size, Range(0, size))
    async for line in export(store, tree, cut, written_by="", sizes=verifier.sizes(), progress=progress):
        verifier.take(line)
    return verifier.finish()


def verify(lines: Iterable[Line], verifier: Verifier) -> list[Check]:
    """Judge the lines of a file. Raises `UsageError` for a file that no export has written."""
    for line in lines:
        verifier.take(line)
    return verifier.finish()


def _count(number: int, noun: str, plural: str = "") -> str:
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def found_text(index: int, at_us: int, digest: str, data: bytes) -> str:
    """An event with its place, as it is shown to people."""
    return f"leaf {index:,}, written {timestamp(at_us)}, hash {digest}: {data.decode(errors='replace')}"
