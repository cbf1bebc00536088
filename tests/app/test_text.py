"""What the model of a session says, as those who watch it from Python get it: early, in order, and whole."""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from ostler import Agent, Continue, ModelAnswered, Piece, Policy, Runtime, Session, hook
from ostler.app.speech import spoken
from ostler.domain.session.events import (
    SESSION_CODEC,
    AgentCompleted,
    CallRetried,
    ModelCompleted,
    ModelFailed,
    ModelRequested,
    SessionEvent,
)
from ostler.kernel.errors import ProviderUnreachable
from ostler.kernel.event import GENESIS, Record, StreamId
from ostler.testing import Scripted, calls
from tests.runtime.processes import child
from tests.runtime.talking import Talker
from tests.servers import fresh_schema

PATIENCE_S = 30.0


async def until(pieces: AsyncGenerator[Piece, None], text: str) -> list[Piece]:
    """The next pieces, up to one after which all of this was said."""
    found: list[Piece] = []
    async with asyncio.timeout(PATIENCE_S):
        while text not in "".join(one.text for one in found):
            found.append(await anext(pieces))
    return found


def joined(pieces: list[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


async def everything(session: Session, **more: Any) -> list[Piece]:
    async with asyncio.timeout(PATIENCE_S):
        return [piece async for piece in session.text(**more)]


async def test_text_comes_while_the_model_still_talks_and_the_iteration_ends_with_the_session() -> None:
    model = Talker()
    async with Runtime.open("memory:") as runtime:
        session = await runtime.start(Agent("talker", model=model), "Talk.")
        async with aclosing(session.text()) as pieces:
            model.words.put_nowait("Hello")
            early = await until(pieces, "Hello")
            model.words.put_nowait(", world")
            model.words.put_nowait(None)
            rest = [piece async for piece in pieces]
    assert [(one.call, one.attempt, one.offset) for one in early] == [("1", 1, 0)]
    assert joined([*early, *rest]) == "Hello, world"


async def test_an_attempt_that_failed_is_begun_anew_and_says_so() -> None:
    model = Talker()
    async with Runtime.open("memory:") as runtime:
        session = await runtime.start(Agent("talker", model=model), "Talk.")
        async with aclosing(session.text()) as pieces:
            model.words.put_nowait("Half of")
            first = await until(pieces, "Half of")
            model.words.put_nowait(ProviderUnreachable("it went away"))
            for word in ("The whole", None):
                model.words.put_nowait(word)
            second = [piece async for piece in pieces]
    assert {piece.attempt for piece in first} == {1}
    assert {piece.attempt for piece in second} == {2}
    assert joined(second) == "The whole"


async def test_a_session_that_is_over_says_everything_again_from_its_log() -> None:
    turns = (calls(("unknown", {}), text="I look."), "Nothing there.")
    async with Runtime.open("memory:") as runtime:
        session = await runtime.start(Agent("clerk", model=Scripted(*turns)), "Look.")
        await session.result()
        said = await everything(session)
        seen = [one.seq async for one in session.events(follow=False) if isinstance(one.event, ModelCompleted)]
        assert [(one.call, one.text) for one in said] == [("1", "I look."), ("2", "Nothing there.")]
        assert [one.text for one in await everything(session, after=seen[0])] == ["Nothing there."]


@hook("post_model", name="reader")
def _reader(_: ModelAnswered) -> Continue:
    return Continue()


@hook("on_end", name="ending")
def _ending(_: Any) -> Continue:
    return Continue()


REDACTING = Policy("careful", text="DEFAULT ALLOW\nREDACT output OF model MATCHING secret.*\n")


@pytest.mark.parametrize(
    ("about", "because"),
    [({"rules": REDACTING}, "a rule"), ({"hooks": [_reader]}, "hooks"), ({"hooks": [_ending]}, ""), ({}, "")],
)
async def test_what_could_still_be_taken_out_is_not_shown_before_it_is_in_the_log(
    about: dict[str, Any], because: str
) -> None:
    model, secret = Talker(), "sk-ant-api03-" + "aB3dE6gH9" * 10 + "-AA"
    async with Runtime.open("memory:") as runtime:
        session = await runtime.start(Agent("talker", model=model, **about), "Talk.")
        async with aclosing(runtime.parts.live.watch(session.stream)) as live:
            first = asyncio.ensure_future(anext(live))
            model.words.put_nowait(f"The key is {secret}.")
            model.words.put_nowait(None)
            async with asyncio.timeout(PATIENCE_S):
                heard = await first
            said = await everything(session)
    assert because in heard.withheld
    assert bool(heard.withheld) == bool(because)
    assert bool(heard.text) == (not because)
    if "rules" in about:
        assert joined(said) == "The key is [redacted:secret.anthropic]."
    else:
        assert joined(said) == f"The key is {secret}."


async def test_a_watcher_who_never_reads_does_not_slow_the_session_down() -> None:
    model = Talker()
    async with Runtime.open("memory:") as runtime:
        session = await runtime.start(Agent("talker", model=model), "Talk.")
        async with aclosing(session.text()) as pieces:
            model.words.put_nowait("first ")
            found = await until(pieces, "first ")
            for number in range(5_000):
                model.words.put_nowait(f"{number:08} " * 10)
            model.words.put_nowait(None)
            assert (await session.result(timeout_s=PATIENCE_S)).is_success
            found += [piece async for piece in pieces]
        whole = (await session.result()).text
    assert found[-1].offset + len(found[-1].text) == len(whole)
    assert all(whole[one.offset :].startswith(one.text) for one in found)


async def _of_another(store: str) -> tuple[str, str]:
    """A process runs the session; this one watches it, and another tenant's watcher sees nothing.

    What came of the first attempt, and of the second.
    """
    async with child("tests.runtime.talking", store) as talker:
        name = (await talker.until("session ")).partition(" ")[2]
        await talker.tell("say One")
        async with Runtime.open(store, worker=False) as runtime:
            session = await runtime.session(name)
            foreign = runtime.parts.live.watch(StreamId("globex", name))
            unheard = asyncio.ensure_future(anext(foreign))
            async with aclosing(session.text()) as pieces:
                found = await until(pieces, "One")
                await talker.tell("say  two")
                found += await until(pieces, " two")
                await talker.tell("lose")
                await talker.tell("say Again")
                again = await until(pieces, "Again")
                await talker.tell("say , and done")
                await talker.tell("end")
                again += [piece async for piece in pieces]
            assert (await session.result()).text == "Again, and done"
            assert not unheard.done()
            unheard.cancel()
            await asyncio.wait({unheard})
            await foreign.aclose()
        assert await talker.until("ended") == "ended completed"
        assert await talker.ended() == 0
    assert {piece.attempt for piece in found} == {1}
    assert {piece.attempt for piece in again} == {2}
    return joined(found), joined(again)


async def test_another_process_on_the_same_file_hears_it(tmp_path: Path) -> None:
    assert await _of_another(f"sqlite:///{tmp_path / 'store.db'}") == ("One two", "Again, and done")
    assert sorted(os.listdir(tmp_path)) == ["store.db"]


def test_another_process_on_the_same_server_hears_it() -> None:
    with fresh_schema() as url:
        assert asyncio.run(_of_another(url)) == ("One two", "Again, and done")


async def test_a_process_that_never_reads_does_not_slow_the_one_that_talks(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'store.db'}"
    async with child("tests.runtime.talking", store) as talker:
        name = (await talker.until("session ")).partition(" ")[2]
        (sock,) = (tmp_path / "store.db.live").iterdir()
        reader, writer = await asyncio.open_unix_connection(str(sock), limit=1024)
        writer.write(f'["default","{name}"]\n'.encode())
        await writer.drain()
        for _ in range(500):
            await talker.tell("say " + "word " * 1_000)
        await talker.tell("end")
        assert await talker.until("ended") == "ended completed"
        assert not reader.at_eof()
        writer.transport.abort()
        await writer.wait_closed()


# What is given out, whatever comes first


def record(seq: int, event: SessionEvent) -> Record:
    return Record(StreamId("t", "ses_1"), seq, 0, SESSION_CODEC.encode(event), GENESIS, 0)


Step = Piece | SessionEvent


async def told(*steps: Step, after: int = 0) -> list[Piece]:
    """What is given out when these come in this order, each after the one before was taken in."""
    live: asyncio.Queue[Piece] = asyncio.Queue()
    log: asyncio.Queue[Record | None] = asyncio.Queue()

    async def of(queue: asyncio.Queue[Any]) -> AsyncGenerator[Any, None]:
        while (one := await queue.get()) is not None:
            yield one

    async def feed() -> None:
        for seq, step in enumerate(steps, 1):
            if isinstance(step, Piece):
                live.put_nowait(step)
            else:
                log.put_nowait(record(seq, step))
            for _ in range(10):
                await asyncio.sleep(0)
        log.put_nowait(None)

    feeding = asyncio.create_task(feed())
    found = [piece async for piece in spoken(of(live), of(log), after=after)]
    await feeding
    return found


ASKED = ModelRequested("1")
SAID = ModelCompleted("1", "abcdef")


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ((ASKED, Piece("1", 1, 0, "abc"), Piece("1", 1, 3, "def"), SAID), ["abc", "def"]),
        ((ASKED, Piece("1", 1, 0, "abc"), SAID), ["abc", "def"]),
        ((ASKED, SAID, Piece("1", 1, 0, "abc")), ["abcdef"]),
        ((Piece("1", 1, 0, "abc"), ASKED, SAID), ["abc", "def"]),
        ((ASKED, Piece("1", 1, 2, "cd"), SAID), ["cd", "ef"]),
        ((ASKED, Piece("1", 1, 0, "abc"), Piece("1", 1, 1, "bcd"), SAID), ["abc", "d", "ef"]),
        ((ASKED, Piece("1", 1, 0, "", "withheld"), SAID), ["abcdef"]),
        (
            (ASKED, Piece("1", 1, 0, "xy"), Piece("1", 2, 0, "ab"), CallRetried("1", 2, "lost"), SAID),
            ["xy", "ab", "cdef"],
        ),
        ((ASKED, Piece("1", 1, 0, "xy"), CallRetried("1", 2, "lost"), Piece("1", 1, 2, "z"), SAID), ["xy", "abcdef"]),
        (
            (ASKED, Piece("1", 1, 0, "xy"), ModelFailed("1", "x", "y"), Piece("1", 1, 2, "z"), AgentCompleted("")),
            ["xy"],
        ),
        ((ASKED, Piece("1", 1, 0, "abcdefgh"), SAID), ["abcdefgh"]),
        (
            (
                ASKED,
                Piece("1", 1, 0, "ab"),
                Piece("2", 1, 0, "gh"),
                SAID,
                ModelRequested("2"),
                ModelCompleted("2", "ghi"),
            ),
            ["ab", "cdef", "gh", "i"],
        ),
    ],
)
async def test_live_text_and_the_log_are_one_story(steps: tuple[Step, ...], expected: list[str]) -> None:
    assert [piece.text for piece in await told(*steps)] == expected


async def test_a_piece_that_is_ahead_of_the_log_is_told_as_soon_as_the_log_has_come_to_it() -> None:
    begins, goes_on = asyncio.Event(), asyncio.Event()

    async def ahead() -> AsyncGenerator[Piece, None]:
        yield Piece("1", 1, 0, "abc")
        begins.set()
        await asyncio.Event().wait()

    async def behind() -> AsyncGenerator[Record, None]:
        await begins.wait()
        yield record(1, ASKED)
        await goes_on.wait()
        yield record(2, SAID)

    async with aclosing(spoken(ahead(), behind(), after=0)) as pieces:
        async with asyncio.timeout(PATIENCE_S):
            assert (await anext(pieces)).text == "abc"
            goes_on.set()
            assert [piece.text async for piece in pieces] == ["def"]


async def test_what_stands_before_the_place_to_begin_from_is_not_told_again() -> None:
    again: list[Step] = [ASKED, SAID, ModelRequested("2"), Piece("2", 1, 0, "g"), ModelCompleted("2", "gh")]
    assert [piece.text for piece in await told(*again, after=2)] == ["g", "h"]


async def test_a_failing_log_is_told_to_whoever_watches() -> None:
    async def broken(seq: int) -> AsyncGenerator[Record, None]:
        yield record(seq, ASKED)
        raise OSError("gone")

    async def silent() -> AsyncGenerator[Piece, None]:
        await asyncio.Event().wait()
        yield Piece("1", 1, 0)

    with pytest.raises(OSError, match="gone"):
        await anext(spoken(silent(), broken(1), after=0))
