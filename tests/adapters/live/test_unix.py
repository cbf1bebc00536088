"""Sockets beside a store file: for their owner only, and never left behind for long."""

import asyncio
import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from pathlib import Path

import msgspec
import pytest

from ostler.adapters.live import unix
from ostler.adapters.live.unix import UnixLive
from ostler.domain.live import Piece
from ostler.kernel.errors import OstlerError
from ostler.kernel.event import StreamId

PATIENCE_S = 30.0
HERE = StreamId("acme", "ses_1")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "store.db"
    path.touch()
    return path


@pytest.fixture
async def live(store: Path) -> AsyncIterator[UnixLive]:
    live = UnixLive(store)
    await live.serve()
    yield live
    await live.close()


def sockets(store: Path) -> list[Path]:
    folder = Path(f"{store}.live")
    return sorted(folder.iterdir()) if folder.exists() else []


def dead_socket(store: Path) -> Path:
    """One whose process is gone."""
    path = Path(f"{store}.live") / "1-dead.sock"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    return path


async def call(store: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_unix_connection(str(sockets(store)[0]))


async def test_only_the_owner_gets_at_the_socket_and_its_folder(live: UnixLive, store: Path) -> None:
    (path,) = sockets(store)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_a_folder_that_was_open_to_others_is_closed_to_them(store: Path) -> None:
    folder = Path(f"{store}.live")
    folder.mkdir()
    folder.chmod(0o777)
    live = UnixLive(store)
    await live.serve()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    await live.close()


async def test_serving_twice_is_serving_once_and_closing_leaves_nothing_behind(store: Path) -> None:
    live = UnixLive(store)
    await live.serve()
    await live.serve()
    assert len(sockets(store)) == 1
    await live.close()
    assert not Path(f"{store}.live").exists()


async def test_the_socket_of_a_process_that_died_is_taken_away_by_the_next_that_serves(store: Path) -> None:
    dead = dead_socket(store)
    live = UnixLive(store)
    await live.serve()
    assert not dead.exists()
    assert len(sockets(store)) == 1
    other = UnixLive(store)
    await other.serve()
    assert len(sockets(store)) == 2, "the socket of one that lives stays"
    await other.close()
    await live.close()


async def test_who_watches_takes_a_dead_socket_away_and_hears_those_who_live(live: UnixLive, store: Path) -> None:
    dead = dead_socket(store)
    reply = live.begin(HERE, "1", 1)
    reply.say("alive")
    watcher = UnixLive(store)
    async with asyncio.timeout(PATIENCE_S), aclosing(watcher.watch(HERE)) as pieces:
        assert (await anext(pieces)).text == "alive"
        while dead.exists():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    reply.end()


async def test_a_worker_that_comes_later_is_found(store: Path) -> None:
    watcher, live = UnixLive(store), UnixLive(store)
    async with asyncio.timeout(PATIENCE_S), aclosing(watcher.watch(HERE)) as pieces:
        first = asyncio.ensure_future(anext(pieces))
        await asyncio.wait({first}, timeout=0.05)
        await live.serve()
        live.begin(HERE, "1", 1).say("here I am")
        assert (await first).text == "here I am"
    await live.close()


async def test_a_folder_that_is_a_link_is_not_used(store: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    Path(f"{store}.live").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OstlerError, match="cannot be watched from other processes"):
        await UnixLive(store).serve()


@pytest.mark.parametrize("way", ["somebody else's", "open to others", "a link"])
async def test_nobody_listens_to_sockets_that_others_may_have_put_there(store: Path, tmp_path: Path, way: str) -> None:
    folder = Path(f"{store}.live")
    there = tmp_path / "elsewhere" if way == "a link" else folder
    there.mkdir(mode=0o700)
    if way == "a link":
        folder.symlink_to(there)
    elif way == "open to others":
        there.chmod(0o777)
    elif os.geteuid() == 0:
        os.chown(there, 12_345, -1)
    else:
        pytest.skip("only root can give a folder away")
    callers: list[asyncio.StreamWriter] = []
    forger = await asyncio.start_unix_server(lambda _, writer: callers.append(writer), str(there / "1-forged.sock"))
    live = UnixLive(store)
    async with aclosing(live.watch(HERE)) as pieces:
        first = asyncio.ensure_future(anext(pieces))
        async with asyncio.timeout(PATIENCE_S):
            rounds = 0
            while rounds < 20:
                rounds += 1
                await asyncio.sleep(0.005)
            live.begin(HERE, "1", 1).say("here I am")
            assert (await first).text == "here I am"
    assert callers == []
    forger.close()


async def test_what_acts_on_a_terminal_does_not_get_through_even_if_a_worker_lets_it(store: Path) -> None:
    folder = Path(f"{store}.live")
    folder.mkdir(mode=0o700)

    async def show(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(msgspec.json.encode(Piece("1", 1, 0, "a\x1b[2Jb\u202e")) + b"\n")
        await reader.read()
        writer.close()

    worker = await asyncio.start_unix_server(show, str(folder / "1-old.sock"))
    async with asyncio.timeout(PATIENCE_S), aclosing(UnixLive(store).watch(HERE)) as pieces:
        assert (await anext(pieces)).text == "a\u241b[2Jb\ufffd"
    worker.close()


async def test_a_place_that_cannot_hold_sockets_is_told_of(tmp_path: Path) -> None:
    with pytest.raises(OstlerError, match=r"store.db.live: No such file"):
        await UnixLive(tmp_path / "nowhere" / "store.db").serve()


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\n", b"[1, 2]\n", b'["a"]\n', b"\xff\n", b"x" * 200_000])
async def test_who_asks_for_nothing_that_is_known_is_hung_up_on(live: UnixLive, store: Path, said: bytes) -> None:
    reader, writer = await call(store)
    writer.write(said)
    async with asyncio.timeout(PATIENCE_S):
        with suppress(ConnectionResetError):
            assert await reader.read() == b""
    writer.transport.abort()


async def test_more_watchers_than_there_may_be_are_hung_up_on_and_those_before_hear_on(
    live: UnixLive, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unix, "CONNECTIONS_MAX", 1)
    first, writer = await call(store)
    writer.write(b'["acme","ses_1"]\n')
    live.begin(HERE, "1", 1).say("hello")
    async with asyncio.timeout(PATIENCE_S):
        assert b"hello" in await first.readline()
        second, another = await call(store)
        assert await second.read() == b""
    for one in (another, writer):
        one.transport.abort()
        await one.wait_closed()


async def test_a_worker_that_dies_while_it_is_watched_is_waited_for_to_come_back(store: Path) -> None:
    live, watcher = UnixLive(store), UnixLive(store)
    await live.serve()
    async with asyncio.timeout(PATIENCE_S), aclosing(watcher.watch(HERE)) as pieces:
        live.begin(HERE, "1", 1).say("one")
        assert (await anext(pieces)).text == "one"
        await live.close()
        live = UnixLive(store)
        await live.serve()
        live.begin(HERE, "1", 2).say("two")
        assert [(one.attempt, one.text) for one in [await anext(pieces)]] == [(2, "two")]
    await live.close()
