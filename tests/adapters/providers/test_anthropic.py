from typing import Any

import msgspec
import pytest

from ostler.adapters.providers.anthropic import Anthropic
from ostler.domain.model import (
    AskedCall,
    AssistantMessage,
    ModelRef,
    ModelRequest,
    ModelSettings,
    Reply,
    ToolMessage,
    Usage,
    UserMessage,
)
from ostler.kernel.errors import (
    IncompleteReply,
    ProviderError,
    ProviderGarbled,
    ProviderOverloaded,
    ProviderRejected,
    RateLimited,
)
from ostler.testing.contracts.model_provider import READ, SCHEMA, SEARCH, request
from tests.adapters.providers.recorded import KEY, cassette, cut_everywhere, ignore, offline


async def reply_to(body: bytes, *, seen: list[str] | None = None) -> Reply:
    return await offline("anthropic", body).complete(request(), ignore if seen is None else seen.append)


async def sent(server: Any, asked: ModelRequest) -> Any:
    server.answers(Reply(text="ok"))
    provider = Anthropic(api_key=KEY, base_url=server.url)
    await provider.complete(asked, ignore)
    await provider.close()
    return server.asked[-1].body


def events(*values: dict[str, Any]) -> bytes:
    return b"".join(b"data: %b\n\n" % msgspec.json.encode(value) for value in values)


START = {"type": "message_start", "message": {"model": "m", "usage": {"input_tokens": 1, "output_tokens": 1}}}
TEXT = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
DELTA = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "a"}}
END = {"type": "content_block_stop", "index": 0}
WHY = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}}
STOP = {"type": "message_stop"}


async def test_a_text_arrives_in_pieces_and_whole():
    seen: list[str] = []
    reply = await reply_to(cassette("anthropic_text"), seen=seen)
    assert reply == Reply(
        text="Four of A-17 are left: „Grüße“, 世界 🌍\n\n- one\r\n- two",
        stop="end",
        usage=Usage(input_tokens=25, output_tokens=31),
        model="claude-sonnet-5-5",
    )
    assert seen[:3] == ["Four", " of A", "-17 are left: "]
    assert "".join(seen) == reply.text


async def test_parallel_calls_keep_the_raw_arguments_and_the_ids_of_the_provider():
    reply = await reply_to(cassette("anthropic_tools"))
    assert reply.text == "I'll read both files, then list."
    assert reply.calls == (
        AskedCall("toolu_01T1x1fJ34qAmk2tNTrN7Up6", "files.read", '{"path": "src/main.py", "lines": [1, 2.50]}'),
        AskedCall("toolu_01A09q90qw90lq917835lq9", "files.read", '{"path": "README – é.md"}'),
        AskedCall("toolu_01KPq1c1vBQp9a9m7g8nYxYz", "stock", "{}"),
    )
    assert reply.stop == "tool_calls"
    assert reply.usage == Usage(input_tokens=472, output_tokens=117, cache_read_tokens=20480, cache_write_tokens=1180)


async def test_thinking_is_not_text():
    seen: list[str] = []
    reply = await reply_to(cassette("anthropic_thinking"), seen=seen)
    assert (reply.text, "".join(seen)) == ("Action: stock\n", "Action: stock\n")
    assert reply.stop == "stop_sequence"


async def test_of_a_reply_that_was_cut_only_whole_calls_are_kept():
    reply = await reply_to(cassette("anthropic_length"))
    assert [call.id for call in reply.calls] == ["toolu_01whole"]
    assert reply.stop == "length"


async def test_a_stream_cut_at_any_byte_never_yields_a_reply():
    body = cassette("anthropic_tools")
    assert await cut_everywhere("anthropic", body) == len(body)
    assert (await reply_to(body)).stop == "tool_calls"


@pytest.mark.parametrize(
    ("reason", "stop"),
    [
        ("end_turn", "end"),
        ("tool_use", "tool_calls"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("stop_sequence", "stop_sequence"),
        ("refusal", "refusal"),
        ("pause_turn", "other"),
        ("yet_to_be_invented", "other"),
    ],
)
async def test_stop_reasons_are_put_in_our_words(reason: str, stop: str):
    why = {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 2}}
    assert (await reply_to(events(START, TEXT, DELTA, END, why, STOP))).stop == stop


async def test_what_is_not_known_is_passed_over():
    news = {"type": "yet_to_be_invented", "delta": {"type": "x", "text": "no"}, "index": 0}
    block = {"type": "content_block_start", "index": 1, "content_block": {"type": "hologram", "data": [1]}}
    delta = {"type": "content_block_delta", "index": 1, "delta": {"type": "hologram_delta", "data": "x"}}
    end = {"type": "content_block_stop", "index": 1}
    reply = await reply_to(events(START, news, TEXT, DELTA, END, block, delta, end, WHY, STOP))
    assert reply.text == "a"


async def test_a_server_may_send_the_whole_input_at_once():
    block = {"type": "tool_use", "id": "1", "name": "search", "input": {"q": [1]}}
    begin = {"type": "content_block_start", "index": 0, "content_block": block}
    assert (await reply_to(events(START, begin, END, WHY, STOP))).calls == (AskedCall("1", "search", '{"q":[1]}'),)


@pytest.mark.parametrize(
    ("stream", "kind"),
    [
        (events(START, TEXT, DELTA, END, STOP), IncompleteReply),
        (events(START, TEXT, DELTA, WHY, STOP), IncompleteReply),
        (events(STOP), IncompleteReply),
        (events(START, START), ProviderGarbled),
        (events(TEXT), ProviderGarbled),
        (events(START, DELTA), ProviderGarbled),
        (events(START, TEXT, TEXT), ProviderGarbled),
        (events(START, TEXT, END, DELTA), ProviderGarbled),
        (events(START, TEXT, END, TEXT), ProviderGarbled),
    ],
    ids=["no reason", "open block", "no start", "two starts", "block first", "no block", "twice", "late", "again"],
)
async def test_events_out_of_place_never_make_a_reply(stream: bytes, kind: type[ProviderError]):
    with pytest.raises(kind):
        await reply_to(stream)


async def test_an_error_in_the_stream_is_the_error_that_it_says():
    with pytest.raises(ProviderOverloaded, match="Overloaded") as caught:
        await reply_to(cassette("anthropic_overloaded"))
    assert caught.value.status == 529


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("rate_limit_error", RateLimited),
        ("api_error", ProviderOverloaded),
        ("invalid_request_error", ProviderRejected),
        ("authentication_error", ProviderRejected),
        ("yet_to_be_invented", ProviderOverloaded),
    ],
)
async def test_each_type_of_error_in_the_stream_has_its_class(name: str, kind: type[ProviderError]):
    with pytest.raises(kind, match="Why"):
        await reply_to(events(START, TEXT, DELTA, {"type": "error", "error": {"type": name, "message": "Why."}}))


# Requests


async def test_everything_that_was_asked_reaches_the_wire(server):
    settings = ModelSettings(temperature=0.25, max_tokens=99, stop=("Observation:", "END"))
    calls = (AskedCall("1.1", "files.read", '{"path": "a", "n": 1.0}'), AskedCall("1.2", "no.such", "{oops"))
    messages = (
        UserMessage("Go."),
        UserMessage("Really."),
        AssistantMessage("I go.", calls),
        ToolMessage("1.1", "files.read", '{"ok":true}'),
        ToolMessage("1.2", "no.such", '{"ok":false}', ok=False),
        UserMessage("And?"),
    )
    assert await sent(server, request(settings=settings, messages=messages)) == {
        "model": "model-1",
        "max_tokens": 99,
        "temperature": 0.25,
        "stop_sequences": ["Observation:", "END"],
        "stream": True,
        "system": "You are a clerk.",
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Go.\n\nReally."}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "I go."},
                    {"type": "tool_use", "id": "call_1_1", "name": "files__read", "input": {"path": "a", "n": 1.0}},
                    {
                        "type": "tool_use",
                        "id": "call_1_2",
                        "name": "no__such",
                        "input": {"malformed_arguments": "{oops"},
                    },
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "call_1_1", "content": '{"ok":true}'},
                    {"type": "tool_result", "tool_use_id": "call_1_2", "content": '{"ok":false}', "is_error": True},
                    {"type": "text", "text": "And?"},
                ],
            },
        ],
        "tools": [
            {"name": "files__read", "description": READ.description, "input_schema": SCHEMA},
            {"name": "search", "description": SEARCH.description, "input_schema": SEARCH.parameters},
        ],
    }
    assert server.asked[0].path == "/v1/messages"
    assert server.asked[0].headers["x-api-key"] == KEY
    assert server.asked[0].headers["anthropic-version"] == "2023-06-01"


async def test_what_was_not_asked_for_is_left_to_the_provider(server):
    body = await sent(server, request(system="", tools=(), messages=(UserMessage("Hi."),)))
    assert set(body) == {"model", "max_tokens", "stream", "messages"}


async def test_a_model_that_is_spoken_to_in_text_is_offered_no_native_tools(server):
    model = ModelRef(kind="live", provider="anthropic", name="model-1", tools="text")
    assert "tools" not in await sent(server, request(model=model, messages=(UserMessage("Hi."),)))
