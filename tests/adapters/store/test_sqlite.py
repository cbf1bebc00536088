"""The SQLite store keeps the contract, also among processes, crashes, full disks and damaged files."""

import asyncio
import itertools
import os
import random
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from ostler.adapters.store.sqlite import LIST_QUEUE, SqliteStore
from ostler.adapters.store.sqlite_blobs import SqliteBlobStore
from ostler.kernel.errors import StoreBusy, StoreCorrupt, StoreError, StoreFull
from ostler.kernel.event import Record, StreamId, first_broken
from ostler.ports import Append
from ostler.testing.contracts.blob_store import BlobStoreContract
from ostler.testing.contracts.event_store import EventStoreContract
from ostler.testing.contracts.streams import ORDER, OTHER, addition, records, standing

WRITING = Path(__file__).with_name("writing.py")


class TestSqliteStore(EventStoreContract):
    def storage(self, directory):
        return lambda: SqliteStore.open(directory / "ostler.db")


class TestSqliteBlobStore(BlobStoreContract):
    @pytest.fixture(autouse=True)
    async def _close(self):
        self.stores: list[SqliteStore] = []
        yield
        for store in self.stores:
            await store.close()

    def storage(self, directory):
        async def open_blobs():
            self.stores.append(await SqliteStore.open(directory / "ostler.db"))
            return SqliteBlobStore(self.stores[-1])

        return open_blobs


@pytest.fixture
async def store(tmp_path):
    store = await SqliteStore.open(tmp_path / "ostler.db")
    yield store
    await store.close()


# Commits


async def test_a_thousand_sessions_share_their_commits(store):
    async def session(number):
        stream = StreamId("acme", f"ses-{number}")
        for version in range(0, 20, 2):
            await store.append(addition(stream, version, 2))
            await asyncio.create_task(asyncio.sleep(0))

    await asyncio.gather(*(session(number) for number in range(1_000)))
    assert await store.head() == 20_000
    assert store.commits < 0.01 * 10_000


async def test_a_lone_session_has_a_commit_for_each_append(store):
    for version in range(10):
        await store.append(addition(ORDER, version))
    assert store.commits == 10


async def test_claims_share_the_commits_of_appends_and_keep_their_place_among_them(store):
    due = standing(due_us=1)
    _, claims, _, none, _ = await asyncio.gather(
        store.append(addition(ORDER, 0, stands=due)),
        store.claim("anna", now_us=1, limit=9),
        store.beat("anna", until_us=9),
        store.claim("bert", now_us=1, limit=9),
        store.append(addition(OTHER, 0, stands=due)),
    )
    assert ([claim.stream for claim in claims], none, store.commits) == ([ORDER], [], 1)


async def test_an_append_that_cannot_be_stored_fails_alone(store):
    broken = Record(OTHER, 1, 2**70, b"", b"")
    results = await asyncio.gather(
        store.append(addition(ORDER, 0)),
        store.append(Append(OTHER, 0, [broken], standing())),
        store.append(addition(ORDER, 1)),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [int, OverflowError, int]
    assert await store.append(addition(OTHER, 0)) == 3


async def test_an_event_costs_little_more_than_its_data(tmp_path):
    """32 bytes of hash, 8 of time, about 30 of keys and of what SQLite needs for row and index, and the page's end."""
    store = await SqliteStore.open(tmp_path / "ostler.db")
    data = b"x" * 200

    async def session(stream):
        for version in range(0, 200, 2):
            made = [Record(stream, version + k, 2**50, data, data[:32]) for k in (1, 2)]
            await store.append(Append(stream, version, made, None if version else standing()))

    await asyncio.gather(*(session(StreamId("acme", f"ses-{number}")) for number in range(100)))
    await store.close()
    assert (tmp_path / "ostler.db").stat().st_size / 20_000 < 200 + 95


# Locks


async def test_the_loop_goes_on_while_another_process_holds_the_file(store, tmp_path):
    with held(tmp_path / "ostler.db") as release:
        appending = asyncio.create_task(store.append(addition(ORDER, 0)))
        await store.wait(after=0, timeout_s=0.02)
        assert not appending.done()
        release()
        assert await appending == 1


async def test_a_file_that_is_held_for_too_long_is_busy(tmp_path):
    store = await SqliteStore.open(tmp_path / "ostler.db", busy_timeout_s=0.02)
    with held(tmp_path / "ostler.db"), pytest.raises(StoreBusy):
        await store.append(addition(ORDER, 0))
    assert await store.append(addition(ORDER, 0)) == 1
    await store.close()


async def test_opening_waits_for_a_file_that_is_held(tmp_path):
    (tmp_path / "ostler.db").touch()
    with held(tmp_path / "ostler.db") as release:
        with pytest.raises(StoreBusy):
            await SqliteStore.open(tmp_path / "ostler.db", busy_timeout_s=0.01)
        opening = asyncio.create_task(SqliteStore.open(tmp_path / "ostler.db"))
        await asyncio.sleep(0)
        release()
        await (await opening).close()


@contextmanager
def held(path):
    """Another connection is writing; what is yielded lets go of it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield lambda: connection.execute("ROLLBACK")


# Waiting


async def test_a_foreign_wait_sleeps_through_our_own_appends(store):
    waiting = asyncio.create_task(store.wait(after=0, timeout_s=0.05, foreign=True))
    await asyncio.sleep(0)
    await store.append(addition(ORDER, 0))
    assert await store.wait(after=0, timeout_s=60) == 1
    assert not waiting.done()
    assert await waiting == 0


async def test_a_foreign_wait_knows_what_others_wrote_before_it(store, tmp_path):
    other = await SqliteStore.open(tmp_path / "ostler.db")
    await other.append(addition(ORDER, 0))
    assert await store.wait(after=0, timeout_s=60, foreign=True) == 1
    await other.close()


async def test_the_file_is_watched_only_while_somebody_waits(store, monkeypatch):
    stopped = asyncio.Event()

    def look():
        SqliteStore._look(store)
        if store._poll is None:
            stopped.set()

    monkeypatch.setattr(store, "_look", look)
    await store.wait(after=0, timeout_s=0.01)
    await stopped.wait()
    assert store._poll is None


async def test_closing_ends_all_waiting(store):
    waiting = asyncio.create_task(store.wait(after=0, timeout_s=60))
    await asyncio.sleep(0)
    await store.close()
    with pytest.raises(StoreError, match="closed"):
        await waiting


# Processes and crashes


def writing(path, name, count):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(WRITING), str(path), name, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


async def streams_of(store):
    return {info.stream.name: await store.read(info.stream) for info in await store.streams("acme")}


async def test_two_processes_write_to_one_file_without_gap_or_loss(store, tmp_path):
    processes = [writing(tmp_path / "ostler.db", name, 40) for name in ("one", "two")]
    seen: list[Record] = []
    while len(seen) < 2 * 3 * 40:
        after = seen[-1].position if seen else 0
        assert await store.wait(after=after, timeout_s=60) > after
        seen += await store.tail(after=after)
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    assert seen == await store.tail()
    found = await streams_of(store)
    assert {name: len(stream) for name, stream in found.items()} == {
        "shared": 80,
        **dict.fromkeys(["one-1", "one-2", "two-1", "two-2"], 40),
    }
    assert [first_broken(stream) for stream in found.values()] == [None] * 5


async def test_what_was_acknowledged_survives_a_process_that_is_killed(tmp_path):
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    acknowledged = set()
    for _ in range(4):
        process = writing(tmp_path / "ostler.db", "victim", 10_000)
        for _ in range(rng.randint(1, 100)):
            acknowledged.add(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        acknowledged |= {line for line in process.communicate()[0].splitlines(keepends=True) if line.endswith("\n")}
        store = await SqliteStore.open(tmp_path / "ostler.db")
        found = await streams_of(store)
        there = {f"{name} {record.seq}\n" for name, stream in found.items() for record in stream}
        assert acknowledged - {"ready 0\n"} <= there, f"seed {seed}"
        assert [first_broken(stream) for stream in found.values()] == [None] * len(found), f"seed {seed}"
        await store.close()


# Space


async def test_a_full_store_refuses_and_loses_nothing(store):
    connection = store._database.connection()
    connection.execute("PRAGMA max_page_count = 40")
    acknowledged = await fill(store, ORDER)
    assert [r.seq for r in await store.read(ORDER)] == acknowledged
    connection.execute("PRAGMA max_page_count = 1000000")
    await store.append(addition(ORDER, len(acknowledged)))


@pytest.fixture
def small_disk(tmp_path):
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    yield tmp_path
    subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


async def test_a_full_disk_refuses_and_loses_nothing_and_work_goes_on_when_there_is_space(small_disk):
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"\0" * 300_000)
    store = await SqliteStore.open(small_disk / "ostler.db")
    acknowledged = await fill(store, ORDER)
    assert [r.seq for r in await store.read(ORDER)] == acknowledged
    ballast.unlink()
    await store.append(addition(ORDER, len(acknowledged)))
    await store.close()
    store = await SqliteStore.open(small_disk / "ostler.db")
    assert [r.seq for r in await store.read(ORDER)] == [*acknowledged, len(acknowledged) + 1]
    await store.close()


async def test_opening_on_a_full_disk_says_so(small_disk):
    with pytest.raises(OSError, match="space"):
        (small_disk / "ballast").write_bytes(b"\0" * 2_000_000)
    with pytest.raises(StoreFull):
        await SqliteStore.open(small_disk / "ostler.db")
    (small_disk / "ballast").unlink()
    await (await SqliteStore.open(small_disk / "ostler.db")).close()


async def test_on_a_full_disk_everything_can_still_be_read(small_disk):
    store = await SqliteStore.open(small_disk / "ostler.db")
    await store.append(addition(ORDER, 0, 9))
    await store.close()
    with pytest.raises(OSError, match="space"):
        (small_disk / "ballast").write_bytes(b"\0" * 2_000_000)
    store = await SqliteStore.open(small_disk / "ostler.db", create=False)
    assert (len(await store.read(ORDER)), await store.head()) == (9, 9)
    assert [info.stream for info in await store.streams("acme")] == [ORDER]
    assert await store.wait(after=9, timeout_s=0.02) == 9
    with pytest.raises(StoreFull):
        await store.append(addition(ORDER, 9))
    (small_disk / "ballast").unlink()
    assert await store.append(addition(ORDER, 9)) == 10
    assert len(await store.read(ORDER)) == 10
    await store.close()


async def fill(store: SqliteStore, stream: StreamId) -> list[int]:
    """Append until there is no space; the numbers of what was acknowledged."""
    for seq in itertools.count(1):
        record = Record(stream, seq, seq, b"x" * 10_000, b"\0" * 32)
        try:
            await store.append(Append(stream, seq - 1, [record], standing()))
        except StoreFull:
            break
    assert seq > 1
    return list(range(1, seq))


# Lists


async def test_sessions_of_one_agent_are_found_without_looking_at_all_others(store):
    details = [
        row[-1]
        for row in store._database.fetch(
            f"EXPLAIN QUERY PLAN {LIST_QUEUE}",
            {"tenant": "acme", "first": 1, "before": 9, "prefix": "", "queue": "coder", "limit": 5},
        )
    ]
    assert details == ["SEARCH streams USING INDEX streams_by_queue (tenant=? AND queue=? AND rowid>? AND rowid<?)"]


# Damage


async def test_a_changed_bit_is_found_by_the_chain(tmp_path):
    path = tmp_path / "ostler.db"
    store = await SqliteStore.open(path)
    await store.append(Append(ORDER, 0, records(ORDER, 0, 9), standing()))
    await store.close()
    path.write_bytes(path.read_bytes().replace(b'"bale":7', b'"bale":6'))
    store = await SqliteStore.open(path)
    assert first_broken(await store.read(ORDER)) == 7
    await store.close()


async def test_a_changed_blob_is_found_by_its_hash(tmp_path):
    path = tmp_path / "ostler.db"
    store = await SqliteStore.open(path)
    digest = await SqliteBlobStore(store).put(ORDER, b"a bale of hay")
    await store.close()
    path.write_bytes(path.read_bytes().replace(b"a bale of hay", b"a bale of hoy"))
    store = await SqliteStore.open(path)
    with pytest.raises(StoreCorrupt):
        await SqliteBlobStore(store).get("acme", digest)
    await store.close()


async def test_a_damaged_page_is_reported_as_damage(tmp_path):
    path = tmp_path / "ostler.db"
    store = await SqliteStore.open(path)
    await store.append(addition(ORDER, 0, 200))
    await store.close()
    body = path.read_bytes()
    page = body.rindex(b'"bale":100') // 4096
    path.write_bytes(body[: page * 4096] + b"\xff" * 4096 + body[(page + 1) * 4096 :])
    store = await SqliteStore.open(path)
    with pytest.raises(StoreCorrupt):
        await store.read(ORDER)
    await store.close()
