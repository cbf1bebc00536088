"""The SQLite file on disks that fail: power cuts, torn writes, errors and lack of space at each system call, damage."""

import random
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ostler.adapters.store.sqlite import SqliteStore
from ostler.kernel.errors import NotAStore, NotFound, StoreCorrupt, StoreError
from ostler.kernel.event import Record, first_broken
from tests.faults.crew import LONG, size
from tests.faults.disk import WRITES, Disk, run, said
from tests.faults.scribe import STREAM

SEED = 2026
EVENTS = 40


async def found_in(path: Path) -> list[Record]:
    """What a reader finds in a store."""
    store = await SqliteStore.open(path, create=False)
    try:
        return await store.read(STREAM)
    finally:
        await store.close()


def whole(tmp_path: Path, events: int = EVENTS) -> list[Record]:
    """What the scribe writes when nothing is in its way."""
    path = tmp_path / "whole" / "ostler.db"
    path.parent.mkdir()
    assert said(run(path, events))[0] == events
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT seq, at, data, hash, position FROM events ORDER BY seq").fetchall()
    return [Record(STREAM, *row) for row in rows]


def die_with_everything_in_the_log(path: Path, folder: Path) -> None:
    """The scribe is killed as it is about to acknowledge the last event, so that nothing is in the file itself yet."""
    trace = folder / "words"
    run(folder / "whole" / "words.db", EVENTS, "-e", "trace=write", "-o", str(trace))
    lines = [line for line in trace.read_bytes().splitlines() if b"write(" in line]
    last = next(number for number, line in enumerate(lines, 1) if f'"kept {EVENTS}'.encode() in line)
    kill = f"inject=write:signal=KILL:when={last}"
    assert said(run(path, EVENTS, "-e", "trace=write", "-e", kill, "-o", "/dev/null"))[0] >= EVENTS - 1
    assert path.with_name("ostler.db-wal").stat().st_size > 100_000


# Power cuts


@pytest.mark.fault(4)
@pytest.mark.timeout(900)
async def test_after_a_power_cut_at_any_moment_all_that_was_acknowledged_is_there(tmp_path: Path) -> None:
    """Whatever was not synchronised may or may not have reached the disk, sector by sector."""
    folder, trace = tmp_path / "store", tmp_path / "trace"
    folder.mkdir()
    watched = run(folder / "ostler.db", EVENTS, "-o", str(trace), "-xx", "-s", "1000000", "-e", f"trace={WRITES}")
    assert said(watched)[0] == EVENTS
    expected, disk = whole(tmp_path), Disk(trace, folder)
    chance = random.Random(SEED)
    tried = 0
    for step in sorted(chance.sample(range(1, len(disk.steps) + 1), min(size(150, 10_000), len(disk.steps)))):
        for _ in range(size(1, 5)):
            files, acknowledged = disk.after(step, chance)
            after = tmp_path / "after"
            shutil.rmtree(after, ignore_errors=True)
            after.mkdir()
            for name, body in files.items():
                (after / name).write_bytes(body)
            records = await _recovered(after / "ostler.db", acknowledged, f"step {step} of seed {SEED}")
            assert records == expected[: len(records)], f"step {step} of seed {SEED}"
            assert len(records) >= acknowledged, f"step {step} of seed {SEED}"
            tried += 1
    assert tried >= 100


async def _recovered(path: Path, acknowledged: int, where: str) -> list[Record]:
    """What is found after recovery; before anything was acknowledged there may be no store yet."""
    try:
        return await found_in(path)
    except (NotFound, NotAStore, StoreError):
        assert acknowledged == 0, where
        return []


@pytest.mark.fault(4)
async def test_a_log_that_somebody_deleted_leaves_a_store_of_earlier_events_or_none(tmp_path: Path) -> None:
    """That is not promised to keep everything: what was in the log is gone. What is left makes sense."""
    path, copy = tmp_path / "ostler.db", tmp_path / "copy" / "ostler.db"
    copy.parent.mkdir()
    expected = whole(tmp_path)
    die_with_everything_in_the_log(path, tmp_path)
    shutil.copy(path, copy)
    records = await _recovered(copy, 0, "")
    assert records == expected[: len(records)]


# System calls that fail


FAILURES = {
    "fdatasync says EIO": ("fdatasync", "error=EIO", 5),
    "pwrite64 says EIO": ("pwrite64", "error=EIO", 4),
    "pwrite64 says ENOSPC": ("pwrite64", "error=ENOSPC", 6),
    "ftruncate says ENOSPC": ("ftruncate", "error=ENOSPC", 6),
}


@pytest.mark.fault(5, 6)
@pytest.mark.timeout(900)
@pytest.mark.parametrize("failure", FAILURES)
async def test_a_system_call_that_fails_once_loses_nothing_that_was_acknowledged(tmp_path: Path, failure: str) -> None:
    """For every n, or some of them, the n-th call of its kind fails, and the next one goes well again."""
    call, how, _ = FAILURES[failure]
    events = 12
    expected, refused = whole(tmp_path, events), 0
    for number in _some_of_all(call, tmp_path, events):
        path = tmp_path / f"n{number}" / "ostler.db"
        path.parent.mkdir()
        done = run(path, events, "-e", f"trace={call}", "-e", f"inject={call}:{how}:when={number}", "-o", "/dev/null")
        acknowledged, complaints = said(done)
        records = await found_in(path)
        assert records == expected[: len(records)], f"call {number}"
        assert len(records) == acknowledged == events, f"call {number}: {complaints} {done.stderr.decode()[-500:]}"
        refused += bool(complaints)
        shutil.rmtree(path.parent)
    assert refused, "no failure was ever noticed"


@pytest.mark.fault(1, 4)
@pytest.mark.timeout(900)
@pytest.mark.parametrize("call", ["pwrite64", "fdatasync"])
async def test_a_process_killed_at_any_of_its_system_calls_loses_nothing_acknowledged(
    tmp_path: Path, call: str
) -> None:
    events = 12
    expected = whole(tmp_path, events)
    for number in _some_of_all(call, tmp_path, events):
        path = tmp_path / f"n{number}" / "ostler.db"
        path.parent.mkdir()
        done = run(
            path, events, "-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={number}", "-o", "/dev/null"
        )
        acknowledged, _ = said(done)
        records = await _recovered(path, acknowledged, f"call {number}")
        assert records == expected[: len(records)], f"call {number}"
        assert len(records) >= acknowledged, f"call {number}"
        assert said(run(path, events))[0] in (events, 0), "the next process goes on where it was"
        assert await found_in(path) == expected
        shutil.rmtree(path.parent)


def _some_of_all(call: str, folder: Path, events: int) -> list[int]:
    """Which of the calls of one kind are to fail: all that one run makes, or a few of them."""
    path, trace = folder / "count" / "ostler.db", folder / "count.trace"
    path.parent.mkdir()
    run(path, events, "-e", f"trace={call}", "-o", str(trace))
    count = trace.read_bytes().count(f"{call}(".encode())
    assert count, f"{call} is never called"
    return list(range(1, count + 1)) if LONG else sorted(random.Random(SEED).sample(range(1, count + 1), min(5, count)))


# Space


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.fault(6)
@pytest.mark.timeout(900)
async def test_a_disk_that_is_full_at_any_moment_refuses_and_is_gone_on_with_when_there_is_space(
    tmp_path: Path, small_disk: Path
) -> None:
    """The disk has a little more room each time, so that it is full at another write."""
    expected = whole(tmp_path)
    for room in range(4096, 600_000, size(61_440, 4096)):
        path, ballast = small_disk / "ostler.db", small_disk / "ballast"
        ballast.write_bytes(bytes(2 * 1024 * 1024 - room))
        acknowledged, complaints = said(run(path, EVENTS))
        assert acknowledged == EVENTS or "store_full" in complaints, f"{room} bytes: {complaints}"
        ballast.unlink()
        assert said(run(path, EVENTS))[0] in (EVENTS, 0 if acknowledged == EVENTS else EVENTS)
        assert await found_in(path) == expected, f"{room} bytes"
        for file in small_disk.iterdir():
            file.unlink()


# Damage


def _flip(body: bytes, at: int) -> bytes:
    return body[:at] + bytes([body[at] ^ 0x10]) + body[at + 1 :]


DAMAGES: dict[str, Callable[[bytes, int], bytes]] = {"a bit is flipped": _flip, "it ends": lambda body, at: body[:at]}


@pytest.mark.fault(4, 27)
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("which", ["ostler.db", "ostler.db-wal"])
@pytest.mark.parametrize("damage", DAMAGES)
async def test_damage_at_any_512_bytes_is_reported_or_leaves_a_beginning_of_the_log(
    tmp_path: Path, which: str, damage: str
) -> None:
    """Never is anything read as true that was not written; what is missing at the end of a chain is all that can be."""
    path, copy = tmp_path / "ostler.db", tmp_path / "copy" / "ostler.db"
    copy.parent.mkdir()
    expected = whole(tmp_path)
    if which == "ostler.db":
        run(path, EVENTS)
    else:
        die_with_everything_in_the_log(path, tmp_path)
    body = (tmp_path / which).read_bytes()
    chance, outcomes = random.Random(SEED), set()
    places = [min(len(body) - 1, place + chance.randrange(512)) for place in range(0, len(body), 512)]
    for at in places if LONG else sorted(chance.sample(places, min(60, len(places)))):
        for file in tmp_path.glob("ostler.db*"):
            shutil.copy(file, copy.parent)
        (copy.parent / which).write_bytes(DAMAGES[damage](body, at))
        outcomes.add(await _outcome(copy, expected, f"{which} at {at}"))
        shutil.rmtree(copy.parent)
        copy.parent.mkdir()
    assert outcomes <= {"whole", "a beginning", "a broken chain", "reported"}
    assert outcomes != {"whole"}, "no damage did any harm"


async def _outcome(path: Path, expected: list[Record], where: str) -> str:
    try:
        records = await found_in(path)
    except (StoreCorrupt, NotAStore):
        return "reported"
    except NotFound:
        assert path.stat().st_size == 0, where
        return "reported"
    broken = first_broken(records)
    if broken is not None:
        return "a broken chain"
    assert records == expected[: len(records)], where
    return "whole" if len(records) == len(expected) else "a beginning"


# Locks


@pytest.mark.fault(7)
async def test_a_file_that_a_backup_holds_for_longer_than_anybody_waits_is_busy_and_then_written_to(
    tmp_path: Path,
) -> None:
    path = tmp_path / "ostler.db"
    expected = whole(tmp_path)
    assert said(run(path, 10))[0] == 10
    with closing(sqlite3.connect(path, isolation_level=None)) as backup:
        backup.execute("BEGIN EXCLUSIVE")
        acknowledged, complaints = said(run(path, EVENTS))
        assert (acknowledged, set(complaints)) == (0, {"store_busy"})
        backup.execute("ROLLBACK")
    assert said(run(path, EVENTS))[0] == EVENTS
    assert await found_in(path) == expected
