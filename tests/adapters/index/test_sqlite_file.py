"""What becomes of the file of an index: it is private, made anew whenever it is of no use, and keeps nothing erased."""

import multiprocessing
import sqlite3
import stat
from contextlib import suppress
from pathlib import Path

import pytest

from ostler.adapters.index import sqlite_writing
from ostler.adapters.index.database import APPLICATION_ID, LAYOUT_VERSION
from ostler.adapters.index.sqlite import SqliteIndex
from ostler.domain.memory.events import MemoryErased
from ostler.kernel.errors import NotAStore, StaleWrite, StoreBusy, StoreCorrupt
from ostler.ports.memory import Filter, Noted
from ostler.testing.contracts.memory_histories import ANN, BOB, gone, ids, relates, remembered, tell

SECRET = "Zanzibarquux"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ostler.db.memory"


async def filled(path: Path) -> None:
    index = await SqliteIndex.open(path)
    await tell(index, ANN, remembered("mem_1", "hay"))
    await index.close()


def raw(path: Path) -> bytes:
    """All that the files of the index hold, in lower case."""
    return b"".join(file.read_bytes() for file in sorted(path.parent.iterdir()) if file.is_file()).lower()


@pytest.mark.parametrize("by", ["erase", "event"])
@pytest.mark.parametrize("others", [3, 600])
async def test_of_what_was_erased_no_byte_is_left_in_the_files(path: Path, by: str, others: int) -> None:
    index, other = await SqliteIndex.open(path), await SqliteIndex.open(path)
    hay = [remembered(f"mem_hay{number}", f"hay {number}") for number in range(others)]
    secret = relates("mem_1", SECRET, "lives_in", f"{SECRET} House", tags=(SECRET,), key=f"/{SECRET}", happened_us=1)
    await tell(index, ANN, *hay[: others // 2], secret, *hay[others // 2 :])
    await index.embed("f", [(ANN, "mem_1", [0.123456, 0.7]), (ANN, "mem_hay0", [1.0, 0.0])])
    await tell(index, ANN, gone("mem_1"))
    await other.vectors([ANN], "f", [1.0, 0.0])
    ((vector,),) = sqlite3.connect(path).execute("SELECT vector FROM vectors ORDER BY key LIMIT 1")
    for token in (SECRET.lower().encode(), vector.lower()):
        assert token in raw(path)
    if by == "event":
        await tell(index, ANN, MemoryErased(ids=("mem_1",), by="user:ann", because="asked"))
    else:
        await index.erase(ANN, ["mem_1"])
    for token in (SECRET.lower().encode(), vector.lower(), b"mem_1\0"):
        assert token not in raw(path)
    assert ids(await other.words([ANN], [SECRET, "hay"], Filter(is_closed_too=True), limit=999)).count("mem_1") == 0
    assert len(await index.words([ANN], ["hay"], limit=999)) == others
    await index.close()
    await other.close()


async def test_of_a_scope_that_was_cleared_no_byte_is_left_in_the_files(path: Path) -> None:
    index = await SqliteIndex.open(path)
    await tell(index, ANN, *(relates(f"mem_{number}", SECRET, "knows", f"number {number}") for number in range(300)))
    await tell(index, BOB, remembered("mem_1", "hay"))
    assert SECRET.lower().encode() in raw(path)
    await index.clear([ANN])
    assert SECRET.lower().encode() not in raw(path)
    assert ids(await index.words([ANN, BOB], ["hay"])) == ["mem_1"]
    await index.close()


async def test_what_somebody_who_died_had_cleared_is_found_by_nobody_and_gone_once_the_file_is_opened(
    path: Path,
) -> None:
    index = await SqliteIndex.open(path)
    for scope in (ANN, BOB):
        told = [relates(f"mem_{number}", f"{SECRET} {number}", "knows", "Bob") for number in range(600)]
        await tell(index, scope, *told)
    with sqlite3.connect(path, isolation_level=None) as connection:
        sqlite_writing.clear(connection, [ANN])
        sqlite_writing.sweep(connection)
    connection.close()
    assert (await index.applied([ANN, BOB]), await index.page([ANN])) == ({ANN: 0, BOB: 600}, [])
    assert await index.scopes("acme") == [BOB]
    await tell(index, ANN, remembered("mem_1", "hay"))
    await index.close()
    index = await SqliteIndex.open(path)
    ((rows,),) = sqlite3.connect(path).execute("SELECT count(*) FROM memories")
    assert rows == 601
    assert ids(await index.page([ANN])) == ["mem_1"]
    assert (await index.held(BOB)).in_force == {"fact": 600}
    await index.clear([BOB])
    assert SECRET.lower().encode() not in raw(path)
    await index.close()


async def test_the_files_are_for_the_eyes_of_their_owner(path: Path) -> None:
    index = await SqliteIndex.open(path)
    await tell(index, ANN, remembered("mem_1"))
    found = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert set(found.values()) == {0o600}
    await index.close()


async def test_a_file_of_another_layout_is_cleared(path: Path) -> None:
    await filled(path)
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {LAYOUT_VERSION + 1}")
        connection.execute("CREATE TABLE of_tomorrow (x)")
    connection.close()
    index = await SqliteIndex.open(path)
    assert await index.applied([ANN]) == {ANN: 0}
    await tell(index, ANN, remembered("mem_2", "straw"))
    assert ids(await index.page([ANN])) == ["mem_2"]
    await index.close()


@pytest.mark.parametrize("kept", [100, 4096, 20_000])
async def test_a_file_that_was_cut_short_or_overwritten_is_made_anew(path: Path, kept: int) -> None:
    await filled(path)
    path.write_bytes(path.read_bytes()[:kept] + b"\xa5" * (4096 if kept == 100 else 0))
    index = await SqliteIndex.open(path)
    with suppress(StoreCorrupt):
        await index.page([ANN])
    assert await index.applied([ANN]) == {ANN: 0}
    await tell(index, ANN, remembered("mem_2", "straw"))
    assert ids(await index.words([ANN], ["straw"])) == ["mem_2"]
    await index.close()


async def test_what_is_found_damaged_in_use_is_cleared_and_asked_again(path: Path) -> None:
    index = await SqliteIndex.open(path)
    await tell(index, ANN, *(remembered(f"mem_{number}", "hay " * 200) for number in range(300)))
    await index.close()
    index = await SqliteIndex.open(path)
    data = path.read_bytes()
    with path.open("r+b") as file:
        file.seek(4096 * 4)
        file.write(b"\xa5" * (len(data) - 4096 * 4))
    with pytest.raises(StoreCorrupt):
        await index.page([ANN])
    assert await index.applied([ANN]) == {ANN: 0}
    await tell(index, ANN, remembered("mem_1", "straw"))
    assert ids(await index.words([ANN], ["straw"])) == ["mem_1"]
    await index.close()


async def test_what_a_process_keeps_in_mind_of_a_file_is_not_taken_for_what_another_has_made_of_it(path: Path) -> None:
    index, other = await SqliteIndex.open(path), await SqliteIndex.open(path)
    for number, scope in enumerate((ANN, BOB)):
        await tell(index, scope, remembered("mem_1"), remembered("mem_2"))
        await index.embed("f", [(scope, "mem_1", [1.0, float(number)]), (scope, "mem_2", [0.0, 1.0])])
        assert ids(await index.vectors([scope], "f", [1.0, 0.0])) == ["mem_1", "mem_2"]
        assert await index.unembedded([scope], "f") == []
    await other.clear()
    for scope in (BOB, ANN):
        await tell(other, scope, remembered("mem_1"), remembered("mem_2"), remembered("mem_3"))
        await other.embed("f", [(scope, "mem_1", [0.0, 1.0, 0.0]), (scope, "mem_2", [1.0, 0.0, 0.0])])
        assert ids(await index.vectors([scope], "f", [1.0, 0.0, 0.0])) == ["mem_2", "mem_1"]
        assert ids(await index.unembedded([scope], "f")) == ["mem_3"]
    await index.close()
    await other.close()


async def test_a_file_that_is_no_database_is_put_aside(path: Path) -> None:
    path.write_text("Dear diary, " * 100)
    index = await SqliteIndex.open(path)
    await tell(index, ANN, remembered("mem_1"))
    await index.close()
    assert path.with_name(path.name + ".unknown").read_text().startswith("Dear diary")


@pytest.mark.parametrize("application", [0, 1, APPLICATION_ID + 1])
async def test_a_database_of_another_application_is_left_alone(path: Path, application: int) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (x)")
        connection.execute(f"PRAGMA application_id = {application}")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(NotAStore):
        await SqliteIndex.open(path)
    assert path.read_bytes() == before


async def test_a_directory_is_no_index(path: Path) -> None:
    path.mkdir()
    with pytest.raises(NotAStore):
        await SqliteIndex.open(path)


async def test_where_no_file_can_be_made_it_is_in_memory(tmp_path: Path) -> None:
    index = await SqliteIndex.open(tmp_path / "absent" / "ostler.db.memory")
    await tell(index, ANN, remembered("mem_1"))
    assert ids(await index.page([ANN])) == ["mem_1"]
    await index.close()
    assert list(tmp_path.iterdir()) == []


async def test_whoever_finds_the_file_locked_for_long_is_told(path: Path) -> None:
    index = await SqliteIndex.open(path, busy_timeout_s=0.02)
    await tell(index, ANN, remembered("mem_1"))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreBusy):
        await tell(index, ANN, remembered("mem_2"))
    other.execute("ROLLBACK")
    await tell(index, ANN, remembered("mem_2"))
    assert len(await index.page([ANN])) == 2
    other.close()
    await index.close()


def apply_alone(path: str, count: int) -> int:
    """In a process of its own: apply every event that nobody else has applied; how many that were."""
    import asyncio  # of the child, which begins with this function

    async def work() -> int:
        index, done = await SqliteIndex.open(path), 0
        while (after := (await index.applied([ANN]))[ANN]) < count:
            seq = after + 1
            try:
                await index.apply(ANN, [Noted(seq, seq, seq, remembered(f"mem_{seq}", f"hay {seq}"))], after=after)
            except StaleWrite:
                continue
            done += 1
        await index.close()
        return done

    return asyncio.run(work())


async def test_processes_that_apply_the_same_stream_apply_each_event_once(path: Path) -> None:
    count = 150
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        done = pool.starmap(apply_alone, [(str(path), count)] * 2)
    index = await SqliteIndex.open(path)
    assert sum(done) == count
    assert ids(await index.page([ANN], limit=999)) == [f"mem_{seq}" for seq in range(count, 0, -1)]
    assert len(await index.words([ANN], ["hay"], limit=999)) == count
    await index.close()
