"""What every `LiveText` must do, as tests: subclass `LiveTextContract` and say how to make two that share a store."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from itertools import pairwise

import pytest

from ostler.domain.live import Piece
from ostler.kernel.event import StreamId
from ostler.ports import LiveText

PATIENCE_S = 30.0
"""A guard against waiting for ever, not a measure."""
HERE = StreamId("acme", "ses_1")


async def heard(pieces: AsyncGenerator[Piece, None], enough: Callable[[list[Piece]], bool]) -> list[Piece]:
    """What is heard until that is enough."""
    found: list[Piece] = []
    async with asyncio.timeout(PATIENCE_S):
        while not enough(found):
            found.append(await anext(pieces))
    return found


def text_of(pieces: list[Piece]) -> str:
    """All the text, of which nothing may be missing and nothing be there twice."""
    said = ""
    for piece in pieces:
        assert piece.offset == len(said)
        said += piece.text
    return said


class LiveTextContract(ABC):
    """`make` is called twice: once for who publishes, and once for who watches, who may be one and the same."""

    @abstractmethod
    async def make(self) -> LiveText: ...

    @pytest.fixture
    async def publisher(self) -> AsyncIterator[LiveText]:
        live = await self.make()
        await live.serve()
        yield live
        await live.close()
        await live.close()

    @pytest.fixture
    async def watcher(self, publisher: LiveText) -> AsyncIterator[LiveText]:
        live = await self.make()
        yield live
        await live.close()

    async def test_text_arrives_whole_and_in_order(self, publisher: LiveText, watcher: LiveText) -> None:
        async with aclosing(watcher.watch(HERE)) as pieces:
            hearing = asyncio.create_task(heard(pieces, lambda found: "[40]" in "".join(one.text for one in found)))
            reply = publisher.begin(HERE, "1", 1)
            for number in range(41):
                reply.say(f"[{number}]")
                await asyncio.sleep(0)
            found = await hearing
        assert text_of(found) == "".join(f"[{number}]" for number in range(41))
        assert {(piece.call, piece.attempt) for piece in found} == {("1", 1)}
        reply.end()

    async def test_who_begins_to_watch_late_gets_what_came_so_far_and_then_the_rest(
        self, publisher: LiveText, watcher: LiveText
    ) -> None:
        reply = publisher.begin(HERE, "1", 1)
        reply.say("so far")
        async with aclosing(watcher.watch(HERE)) as pieces:
            first = await heard(pieces, lambda found: text_of(found) == "so far")
            reply.say(", so good")
            rest = await heard(pieces, lambda found: text_of([*first, *found]) == "so far, so good")
        assert rest[-1].offset + len(rest[-1].text) == len("so far, so good")
        reply.end()

    async def test_all_who_watch_hear_everything_whenever_they_began(
        self, publisher: LiveText, watcher: LiveText
    ) -> None:
        reply = publisher.begin(HERE, "1", 1)
        reply.say("one ")
        async with aclosing(watcher.watch(HERE)) as early:
            found = await heard(early, lambda found: text_of(found) == "one ")
            async with aclosing(watcher.watch(HERE)) as late:
                assert text_of(await heard(late, lambda found: text_of(found) == "one "))
                reply.say("two")
                rest = await heard(early, lambda more: text_of([*found, *more]) == "one two")
            assert text_of([*found, *rest]) == "one two"
        reply.end()

    async def test_the_last_text_of_a_reply_that_has_ended_is_still_heard(
        self, publisher: LiveText, watcher: LiveText
    ) -> None:
        reply = publisher.begin(HERE, "1", 1)
        reply.say("so far")
        async with aclosing(watcher.watch(HERE)) as pieces:
            first = await heard(pieces, lambda found: text_of(found) == "so far")
            reply.say(", and no further")
            reply.end()
            rest = await heard(pieces, lambda found: bool(found))
        assert text_of([*first, *rest]) == "so far, and no further"

    async def test_another_attempt_and_another_call_begin_anew(self, publisher: LiveText, watcher: LiveText) -> None:
        async with aclosing(watcher.watch(HERE)) as pieces:
            for call, attempt in (("1", 1), ("1", 2), ("2", 1)):
                reply = publisher.begin(HERE, call, attempt)
                reply.say(f"{call}/{attempt}")
                found = await heard(pieces, lambda found: bool(found) and text_of(found[-1:]) != "")
                assert [(one.call, one.attempt, one.offset, one.text) for one in found] == [
                    (call, attempt, 0, f"{call}/{attempt}")
                ]
                reply.end()

    async def test_an_attempt_that_was_left_behind_does_not_speak_into_the_next(
        self, publisher: LiveText, watcher: LiveText
    ) -> None:
        left, reply = publisher.begin(HERE, "1", 1), publisher.begin(HERE, "1", 2)
        left.say("lost")
        left.end()
        reply.say("found")
        async with aclosing(watcher.watch(HERE)) as pieces:
            found = await heard(pieces, lambda found: any(one.attempt == 2 for one in found))
        assert text_of([one for one in found if one.attempt == 2]) == "found"
        reply.end()

    @pytest.mark.parametrize("other", [StreamId("globex", "ses_1"), StreamId("acme", "ses_2")])
    async def test_nobody_hears_another_session_or_another_tenant(
        self, publisher: LiveText, watcher: LiveText, other: StreamId
    ) -> None:
        foreign, own = publisher.begin(other, "1", 1), publisher.begin(HERE, "1", 1)
        async with aclosing(watcher.watch(HERE)) as pieces:
            for number in range(20):
                foreign.say(f"secret {number}")
                own.say(f"own {number} ")
                await asyncio.sleep(0)
            own.say("end")
            found = await heard(pieces, lambda found: "end" in "".join(one.text for one in found))
        assert "secret" not in text_of(found)
        foreign.end()
        own.end()

    async def test_what_is_withheld_is_not_heard_and_why_that_is_so_is(
        self, publisher: LiveText, watcher: LiveText
    ) -> None:
        withheld = publisher.begin(HERE, "1", 1, withheld="a rule looks at it first")
        withheld.say("secret")
        async with aclosing(watcher.watch(HERE)) as pieces:
            (found,) = await heard(pieces, lambda found: bool(found))
            withheld.say("secret")
            withheld.end()
            reply = publisher.begin(HERE, "2", 1)
            reply.say("open")
            rest = await heard(pieces, lambda more: any(one.text == "open" for one in more))
        assert (found.text, found.withheld) == ("", "a rule looks at it first")
        assert not any("secret" in one.text for one in rest)
        reply.end()

    async def test_a_watcher_who_does_not_read_keeps_nobody_waiting_and_is_told_what_was_left_out(
        self, publisher: LiveText, watcher: LiveText
    ) -> None:
        reply, said = publisher.begin(HERE, "1", 1), 0
        async with aclosing(watcher.watch(HERE)) as pieces:
            reply.say("begin ")
            found = await heard(pieces, lambda found: bool(found))
            for number in range(2_000):
                reply.say(f"{number:09} " * 100)
                said += 1_000
                if number % 100 == 0:
                    await asyncio.sleep(0)
            reply.say("end")
            found += await heard(pieces, lambda more: any("end" in one.text for one in more))
        assert found[-1].offset + len(found[-1].text) == len("begin ") + said + len("end")
        behind = [(one.offset + len(one.text), after.offset) for one, after in pairwise(found)]
        assert all(end <= begin for end, begin in behind)
        assert any(end < begin for end, begin in behind)
        reply.end()

    async def test_whatever_is_said_arrives_but_for_what_would_act_on_a_terminal(
        self, publisher: LiveText, watcher: LiveText
    ) -> None:
        text = 'é 漢字 🙂 \x00 \x1b[2J \ud800 " \\ \t \n' * 600
        reply = publisher.begin(HERE, "1", 1)
        reply.say(text)
        async with aclosing(watcher.watch(HERE)) as pieces:
            found = await heard(pieces, lambda found: len(text_of(found)) >= len(text))
        acting = str.maketrans({"\x00": "␀", "\x1b": "␛", "\ud800": "\ufffd"})
        assert text_of(found) == text.translate(acting)
        reply.end()

    async def test_a_model_may_speak_from_a_thread(self, publisher: LiveText, watcher: LiveText) -> None:
        reply = publisher.begin(HERE, "1", 1)
        async with aclosing(watcher.watch(HERE)) as pieces:
            reply.say("one ")
            first = await heard(pieces, lambda found: text_of(found) == "one ")
            await asyncio.to_thread(reply.say, "two")
            rest = await heard(pieces, lambda found: text_of([*first, *found]) == "one two")
        assert rest
        reply.end()

    async def test_watching_where_nothing_is_said_waits_and_can_be_given_up(
        self, publisher: LiveText, watcher: LiveText
    ) -> None:
        async with aclosing(watcher.watch(HERE)) as pieces:
            first = asyncio.ensure_future(anext(pieces))
            await asyncio.wait({first}, timeout=0.1)
            assert not first.done()
            first.cancel()
            await asyncio.wait({first})
