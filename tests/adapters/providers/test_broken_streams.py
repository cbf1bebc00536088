"""Whatever becomes of a stream on its way, half of a reply is never taken for a whole one (faults 17 and 18)."""

import msgspec
import pytest

from ostler.domain.model import Reply, Usage
from ostler.kernel.errors import IncompleteReply, ProviderError, ProviderGarbled, ProviderTimeout
from ostler.testing.contracts.model_provider import request
from ostler.testing.wire import Answer, WireServer
from tests.adapters.providers.recorded import (
    ASKED,
    DIALECTS,
    begun,
    cassette,
    cassettes,
    cut_everywhere,
    ignore,
    offline,
    outcome,
)

EVERY = pytest.mark.parametrize(("dialect", "name"), cassettes(), ids=lambda value: value if "_" in value else "")
FAILED = ("anthropic_overloaded", "openai-responses_failed", "vllm_error")
"""Recordings of failures."""
WHOLE = [(dialect, name) for dialect, name in cassettes() if name not in FAILED]
EVERY_WHOLE = pytest.mark.parametrize(("dialect", "name"), WHOLE, ids=lambda value: value if "_" in value else "")


def events_of(name: str) -> list[bytes]:
    return [event + b"\n\n" for event in cassette(name).split(b"\n\n")[:-1]]


async def reply_or_error(dialect: str, body: bytes) -> Reply | ProviderError:
    try:
        return await offline(dialect, body).complete(ASKED, ignore)
    except ProviderError as error:
        return error


@EVERY
async def test_a_stream_cut_at_any_byte_never_yields_a_reply(dialect: str, name: str) -> None:
    body = cassette(name)
    outcomes = await cut_everywhere(dialect, body)
    assert len(outcomes) == len(body)
    assert set(outcomes) <= {"incomplete_reply"} | ({"provider_overloaded"} if name in FAILED else set())
    assert await outcome(offline(dialect, body)) == ("provider_overloaded" if name in FAILED else "reply")


@EVERY_WHOLE
async def test_no_event_is_missed_when_it_is_the_one_that_says_why_or_that_it_ends(dialect: str, name: str) -> None:
    """Without any of the last events there is no reply, but for those that say nothing but what was used."""
    events = events_of(name)
    whole = await reply_or_error(dialect, b"".join(events))
    assert isinstance(whole, Reply)
    for missing in range(len(events)):
        got = await reply_or_error(dialect, b"".join(events[:missing] + events[missing + 1 :]))
        if b'"finish_reason":"' in events[missing] or b'"stop_reason":"' in events[missing]:
            assert isinstance(got, IncompleteReply), events[missing]
        if b"[DONE]" in events[missing] or b'"message_stop"' in events[missing]:
            assert isinstance(got, IncompleteReply), events[missing]


@EVERY_WHOLE
async def test_an_event_that_comes_twice_makes_no_call_more(dialect: str, name: str) -> None:
    """Nothing in these formats tells a piece of text that came twice from the same text written twice."""
    events = events_of(name)
    whole = await reply_or_error(dialect, b"".join(events))
    assert isinstance(whole, Reply)
    for twice in range(len(events)):
        got = await reply_or_error(dialect, b"".join(events[: twice + 1] + events[twice:]))
        if isinstance(got, Reply):
            ids, may = [call.id for call in got.calls], [call.id for call in whole.calls]
            assert ids == may or (got.stop == "length" and set(ids) < set(may))
            assert (got.usage, got.stop) == (whole.usage, whole.stop)
        else:
            assert type(got) is ProviderGarbled


@EVERY_WHOLE
async def test_garbage_between_any_two_events_is_garbled_or_passed_over(dialect: str, name: str) -> None:
    events = events_of(name)
    whole = await reply_or_error(dialect, b"".join(events))
    for at in range(len(events)):
        for noise, kinds in (
            (b": ping\n\n", Reply),
            (b"event: ping\ndata: {nonsense\n\n", ProviderGarbled),
            (b'data: "\xff\xfe"\n\n', ProviderGarbled),
        ):
            got = await reply_or_error(dialect, b"".join([*events[:at], noise, *events[at:]]))
            assert isinstance(got, kinds), (at, noise, got)
            assert not isinstance(got, Reply) or got == whole


@EVERY_WHOLE
async def test_a_byte_that_turns_bad_on_its_way_never_breaks_more_than_the_call(dialect: str, name: str) -> None:
    body = cassette(name)
    for at in range(0, len(body), 23):
        got = await reply_or_error(dialect, body[:at] + b"\xff" + body[at + 1 :])
        assert isinstance(got, Reply | ProviderError)


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_an_error_in_the_middle_of_a_reply_tells_how_it_began(dialect: str, reach) -> None:
    half = begun(dialect)
    async with WireServer() as server:
        server.answers(
            Answer(chunks=(half,), then="cut"),
            Answer(chunks=(half,), then="silence"),
            Answer(chunks=(half, b"data: {nonsense\n\n")),
        )
        provider = reach(dialect, server.url)
        for kind in (IncompleteReply, ProviderTimeout, ProviderGarbled):
            settings = msgspec.structs.replace(ASKED.settings, timeout_s=0.1 if kind is ProviderTimeout else 30.0)
            with pytest.raises(kind) as caught:
                await provider.complete(request(settings=settings), ignore)
            assert caught.value.partial_text == "Four"
            assert "Four" not in str(caught.value.as_dict())


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_reply_without_its_usage_is_a_reply_of_unknown_cost(dialect: str) -> None:
    lines = cassette(f"{dialect}_text").decode()
    for name in ("usage", "usageMetadata"):
        lines = lines.replace(f'"{name}"', '"no_usage"')
    reply = await offline(dialect, lines.encode()).complete(ASKED, ignore)
    assert reply.text.startswith("Four of A-17")
    assert reply.usage == Usage()


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_reply_in_twenty_thousand_pieces_is_whole(dialect: str, reach) -> None:
    long = Reply(text="0123456789 a" * 20_000)
    async with WireServer() as server:
        server.answers(long)
        reply = await reach(dialect, server.url).complete(ASKED, ignore)
    assert reply.text == long.text
