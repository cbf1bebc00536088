from typing import Any

import msgspec
import pytest

from ostler.adapters.providers.anthropic import Anthropic
from ostler.domain.model import (
    AskedCall,
    AssistantMessage,
    Image,
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
from tests.adapters.providers.recorded import KEY, cassette, ignore, offline


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
MARK = {"type": "ephemeral"}


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


async def test_thoughts_are_kept_as_they_came_and_where_they_came():
    reply = await reply_to(cassette("anthropic_interleaved"))
    assert reply.text == "First shelf A."
    assert [part.text for part in reply.reasoning] == ["Two shelves: „A“ first, 世.", "", ""]
    assert {(part.dialect, part.model) for part in reply.reasoning} == {("anthropic", "model-1")}
    assert [msgspec.json.decode(part.raw) for part in reply.reasoning] == [
        {
            "type": "thinking",
            "thinking": "Two shelves: „A“ first, 世.",
            "signature": "EqQBCgIYAhIMfirstA2b3hGgxBdjrkzL+/==",
        },
        {
            "block": {"type": "redacted_thinking", "data": "EmwKAhgBEgy3va3pzixREDACTED+/="},
            "text": 14,
            "calls": 0,
        },
        {
            "block": {"type": "thinking", "thinking": "", "signature": "EqQBCgIYAhIMsecondOmittedWords="},
            "text": 14,
            "calls": 1,
        },
    ]


async def test_thoughts_are_given_back_in_their_places(server):
    reply = await reply_to(cassette("anthropic_interleaved"))
    calls = tuple([msgspec.structs.replace(call, id=f"1.{n}") for n, call in enumerate(reply.calls, 1)])
    said = AssistantMessage(reply.text, calls, reply.reasoning)
    body = await sent(server, request(messages=(UserMessage("Go."), said, ToolMessage("1.1", "files.read", "a"))))
    assert [block["type"] for block in body["messages"][1]["content"]] == [
        "thinking",
        "text",
        "redacted_thinking",
        "tool_use",
        "thinking",
        "tool_use",
    ]


async def test_thoughts_stay_in_their_order_whatever_became_of_the_text_between(server):
    reply = await reply_to(cassette("anthropic_interleaved"))
    said = AssistantMessage("[cut]", (), reply.reasoning)
    body = await sent(server, request(messages=(UserMessage("Go."), said, UserMessage("Go on."))))
    assert [block["type"] for block in body["messages"][1]["content"]] == [
        "thinking",
        "text",
        "redacted_thinking",
        "thinking",
    ]


async def test_a_thought_that_was_cut_short_is_not_kept():
    begin = {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "Hm"}}
    why = {"type": "message_delta", "delta": {"stop_reason": "max_tokens"}, "usage": {"output_tokens": 2}}
    reply = await reply_to(events(START, begin, END, why, STOP))
    assert (reply.stop, reply.reasoning) == ("length", ())


async def test_a_refusal_without_a_word_is_explained():
    seen: list[str] = []
    reply = await reply_to(cassette("anthropic_refusal"), seen=seen)
    assert (reply.text, reply.stop) == ("This asks for help with an attack.", "refusal")
    assert seen == [reply.text]


async def test_of_a_reply_that_was_cut_only_whole_calls_are_kept():
    reply = await reply_to(cassette("anthropic_length"))
    assert [call.id for call in reply.calls] == ["toolu_01whole"]
    assert reply.stop == "length"


@pytest.mark.parametrize(
    ("reason", "stop"),
    [
        ("end_turn", "end"),
        ("tool_use", "tool_calls"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("stop_sequence", "stop_sequence"),
        ("refusal", "refusal"),
        ("pause_turn", "length"),
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
        "system": [{"type": "text", "text": "You are a clerk.", "cache_control": MARK}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Go.\n\nReally.", "cache_control": MARK}]},
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
                    {"type": "text", "text": "And?", "cache_control": MARK},
                ],
            },
        ],
        "tools": [
            {"name": "files__read", "description": READ.description, "input_schema": SCHEMA},
            {
                "name": "search",
                "description": SEARCH.description,
                "input_schema": SEARCH.parameters,
                "cache_control": MARK,
            },
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


def marks_in(value: Any) -> int:
    if isinstance(value, dict):
        return ("cache_control" in value) + sum(map(marks_in, value.values()))
    return sum(map(marks_in, value)) if isinstance(value, list) else 0


async def test_a_long_conversation_has_four_marks_and_the_last_is_at_its_end(server):
    messages = [
        message
        for turn in range(9)
        for message in (UserMessage(f"Question {turn}."), AssistantMessage(f"Answer {turn}."))
    ]
    body = await sent(server, request(messages=[*messages, UserMessage("Last.")]))
    assert marks_in(body) == 4
    assert marks_in(body["messages"][-1]) == marks_in(body["messages"][-3]) == 1


async def test_what_no_later_request_repeats_comes_behind_the_last_mark_in_a_block_of_its_own(server):
    said = (UserMessage("Go."), AssistantMessage("I go.", (AskedCall("1.1", "search", "{}"),)))
    answer, board = ToolMessage("1.1", "search", '{"ok":true}'), UserMessage("<working_memory>")
    before = await sent(server, request(messages=(*said, answer)))
    body = await sent(server, request(messages=(*said, answer, board), passing=1))
    assert body["messages"][-1]["content"].pop() == {"type": "text", "text": "<working_memory>"}
    assert body == before
    assert marks_in(body["messages"][-1]["content"][-1]) == 1
    alone = await sent(server, request(tools=(), messages=(*said[:1], board), passing=1))
    assert [block["text"] for block in alone["messages"][0]["content"]] == ["Go.", "<working_memory>"]


async def test_a_single_question_pays_no_surcharge_for_a_cache(server):
    assert marks_in(await sent(server, request(tools=(), messages=(UserMessage("Hi."),)))) == 0


@pytest.mark.parametrize(
    ("model", "effort", "thinking", "output"),
    [
        ("claude-opus-5-5", "high", {"type": "adaptive", "display": "summarized"}, {"effort": "high"}),
        ("claude-sonnet-4-6", "low", {"type": "adaptive", "display": "summarized"}, {"effort": "low"}),
        ("claude-opus-4-8", "medium", {"type": "adaptive", "display": "summarized"}, {"effort": "medium"}),
        ("claude-opus-5-5", "none", {"type": "disabled"}, None),
        ("claude-haiku-4-5", "low", {"type": "enabled", "budget_tokens": 2048}, None),
        ("claude-sonnet-4-5-20250929", "medium", {"type": "enabled", "budget_tokens": 8192}, None),
        ("claude-sonnet-4-20250514", "high", {"type": "enabled", "budget_tokens": 10_000}, None),
        ("claude-3-7-sonnet-20250219", "low", {"type": "enabled", "budget_tokens": 2048}, None),
        ("claude-haiku-4-5", "none", {"type": "disabled"}, None),
        ("claude-opus-5-5", None, None, None),
    ],
)
async def test_each_model_is_asked_to_think_in_its_own_way(server, model: str, effort: Any, thinking: Any, output: Any):
    settings = ModelSettings(reasoning=effort, max_tokens=20_000)
    body = await sent(server, request(model=ModelRef("live", "anthropic", model), settings=settings))
    assert (body.get("thinking"), body.get("output_config")) == (thinking, output)


async def test_a_budget_for_thoughts_leaves_room_for_the_answer(server):
    model = ModelRef("live", "anthropic", "claude-haiku-4-5")
    body = await sent(server, request(model=model, settings=ModelSettings(reasoning="high", max_tokens=6000)))
    assert body["thinking"]["budget_tokens"] == 3000


async def test_a_shape_that_can_be_enforced_is_and_others_are_told_in_words(server):
    fits = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}, "required": ["n"]}
    body = await sent(server, request(returns=fits, settings=ModelSettings(reasoning="low")))
    assert body["output_config"] == {
        "effort": "low",
        "format": {
            "type": "json_schema",
            "schema": {
                "type": "object",
                "properties": {"n": {"type": "integer", "description": '{"minimum":1}'}},
                "required": ["n"],
                "additionalProperties": False,
            },
        },
    }
    free = {"type": "object", "additionalProperties": {"type": "integer"}}
    body = await sent(server, request(returns=free))
    assert "output_config" not in body
    assert '"additionalProperties":{"type":"integer"}' in body["system"][0]["text"]


async def test_images_come_after_results_and_before_words(server):
    image = Image(blob="ab" * 32, size=3, media_type="image/webp")
    messages = (*request().messages, UserMessage("And this?", images=(image,)))
    body = await sent(server, request(messages=messages, images={image.blob: b"\x00\xff\x01"}))
    assert [block["type"] for block in body["messages"][-1]["content"]] == ["tool_result", "image", "text"]
    source = {"type": "base64", "media_type": "image/webp", "data": "AP8B"}
    assert body["messages"][-1]["content"][1]["source"] == source
