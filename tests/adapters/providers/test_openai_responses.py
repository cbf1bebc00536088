from typing import Any

import httpx2
import msgspec
import pytest

from ostler.adapters.providers.openai_responses import BETWEEN, OpenAIResponses
from ostler.domain.model import (
    AskedCall,
    AssistantMessage,
    ModelRef,
    ModelRequest,
    ModelSettings,
    Reasoning,
    Reply,
    ToolMessage,
    Usage,
    UserMessage,
)
from ostler.kernel.errors import (
    ContextTooLong,
    IncompleteReply,
    ProviderError,
    ProviderGarbled,
    ProviderOverloaded,
    ProviderRejected,
    ProviderTimeout,
    RateLimited,
)
from ostler.testing.contracts.model_provider import IMAGE, PICTURE, READ, SCHEMA, SEARCH, request
from tests.adapters.providers.recorded import EVENT_STREAM, JSON, KEY, cassette, ignore, offline

MODEL = ModelRef("live", "openai", "gpt-6.1-terra", dialect="openai-responses")


async def reply_to(body: bytes, *, seen: list[str] | None = None, asked: ModelRequest | None = None) -> Reply:
    provider = offline("openai-responses", body)
    return await provider.complete(asked or request(), ignore if seen is None else seen.append)


async def sent(asked: ModelRequest, *, key: str | None = KEY) -> httpx2.Request:
    """The request as it went out."""
    seen: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return httpx2.Response(200, headers=EVENT_STREAM, content=cassette("openai-responses_text"))

    provider = OpenAIResponses(api_key=key, transport=httpx2.MockTransport(answer))
    await provider.complete(asked, ignore)
    return seen[0]


async def body_of(asked: ModelRequest) -> Any:
    return msgspec.json.decode((await sent(asked)).content)


async def input_after(reply: Reply, *, model: ModelRef = MODEL) -> list[Any]:
    """What the model is given of its own reply in the next request."""
    said = AssistantMessage(reply.text, reply.calls, reply.reasoning)
    body = await body_of(request(model=model, messages=(said,)))
    items: list[Any] = body["input"]
    return items


def events(*events: dict[str, Any]) -> bytes:
    return b"".join(b"data: %b\n\n" % msgspec.json.encode(event) for event in events)


def item(number: int, item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "response.output_item.done", "output_index": number, "item": item}


def message(text: str, **more: Any) -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}], **more}


def thought(number: int) -> dict[str, Any]:
    return {"type": "reasoning", "id": f"rs_{number}", "summary": [], "encrypted_content": f"gAAAA{number}"}


def call(number: int) -> dict[str, Any]:
    return {"type": "function_call", "call_id": f"c{number}", "name": "search", "arguments": "{}"}


def completed(**more: Any) -> dict[str, Any]:
    return {"type": "response.completed", "response": {"model": "m", "output": [], **more}}


def whole(*items: dict[str, Any]) -> bytes:
    return events(*[item(number, each) for number, each in enumerate(items)], completed())


async def test_a_text_arrives_in_pieces_and_whole():
    seen: list[str] = []
    reply = await reply_to(cassette("openai-responses_text"), seen=seen)
    assert reply == Reply(
        text="Four of A-17 are left: „Grüße“, 世界 🌍\n\n- one\r\n- two",
        stop="end",
        usage=Usage(input_tokens=24, output_tokens=18),
        model="gpt-6.1-terra-2026-09-17",
    )
    assert seen[:3] == ["Four", " of A", "-17 are left: "]
    assert "".join(seen) == reply.text


async def test_parallel_calls_keep_the_raw_arguments_and_the_ids_of_the_provider():
    reply = await reply_to(cassette("openai-responses_tools"))
    assert reply.text == "I'll read both files, then list."
    assert reply.calls == (
        AskedCall("call_vpFZk7PzLxBFHHJaB4n6ocGm", "files.read", '{"path": "src/main.py", "lines": [1, 2.50]}'),
        AskedCall("call_Qe3Zt5OZ0w0uVnQ3Jm0tq9fF", "files.read", '{"path": "README – é.md"}'),
        AskedCall("call_0bG4yJc9r6o1hX2kS7dTqLpa", "stock", "{}"),
    )
    assert reply.stop == "tool_calls"
    assert reply.usage == Usage(
        input_tokens=2207 - 1920 - 128, output_tokens=161, cache_read_tokens=1920, cache_write_tokens=128
    )


async def test_a_refusal_is_text_and_says_that_it_is_one():
    seen: list[str] = []
    reply = await reply_to(cassette("openai-responses_refusal"), seen=seen)
    assert (reply.text, reply.stop) == ("I'm sorry, I can't help with that.", "refusal")
    assert "".join(seen) == reply.text


async def test_of_a_reply_that_was_cut_only_whole_calls_are_kept():
    reply = await reply_to(cassette("openai-responses_length"))
    assert [asked.id for asked in reply.calls] == ["call_whole"]
    assert reply.stop == "length"


@pytest.mark.parametrize(
    ("reason", "stop"),
    [("max_output_tokens", "length"), ("content_filter", "refusal"), ("max_messages", "other"), (None, "other")],
)
async def test_reasons_for_an_incomplete_reply_are_put_in_our_words(reason: str | None, stop: str):
    end = {"type": "response.incomplete", "response": {"incomplete_details": {"reason": reason}, "output": []}}
    assert (await reply_to(events(item(0, message("a")), end))).stop == stop


async def test_what_a_server_tells_only_at_the_end_is_part_of_the_reply():
    reply = await reply_to(events(completed(output=[message("a"), call(1)])))
    assert (reply.text, [asked.id for asked in reply.calls], reply.stop) == ("a", ["c1"], "tool_calls")


@pytest.mark.parametrize(
    "stream",
    [
        events(item(0, message("a"))),
        events(completed()),
        events({"type": "response.in_progress", "response": {}}),
        b"",
    ],
    ids=["no end", "nothing in it", "only begun", "empty"],
)
async def test_without_its_end_or_anything_in_it_there_is_no_reply(stream: bytes):
    with pytest.raises(IncompleteReply):
        await reply_to(stream)


@pytest.mark.parametrize("kind", ["response.completed", "response.incomplete", "response.output_item.done"])
async def test_an_event_without_what_it_is_about_is_garbled(kind: str):
    with pytest.raises(ProviderGarbled, match=kind):
        await reply_to(events({"type": kind}))


async def test_what_is_yet_to_be_invented_is_passed_over():
    new = {"type": "response.hologram.delta", "delta": {"x": 1}, "output_index": 3}
    assert (await reply_to(events(new) + whole({"type": "hologram"}, message("a")))).text == "a"


FAILURES: list[tuple[dict[str, Any], type[ProviderError], int]] = [
    ({"code": "server_error"}, ProviderOverloaded, 500),
    ({"code": "rate_limit_exceeded"}, RateLimited, 429),
    ({"code": "insufficient_quota"}, ProviderRejected, 429),
    ({"code": "vector_store_timeout"}, ProviderTimeout, 504),
    ({"code": "invalid_prompt"}, ProviderRejected, 400),
    ({"code": "context_length_exceeded"}, ContextTooLong, 400),
    ({"code": "invalid_base64_image"}, ProviderRejected, 400),
    ({"code": "image_too_large"}, ProviderRejected, 400),
    ({"code": "bio_policy"}, ProviderRejected, 400),
    ({"code": "misalignment_policy_violation"}, ProviderRejected, 400),
    ({"type": "invalid_request_error"}, ProviderRejected, 400),
    ({"code": "yet_to_be_invented"}, ProviderOverloaded, 500),
    ({}, ProviderOverloaded, 500),
]


@pytest.mark.parametrize(("error", "kind", "status"), FAILURES, ids=lambda value: str(value))
@pytest.mark.parametrize("form", ["response.failed", "error", "error within"])
async def test_each_error_in_the_stream_has_its_class(
    form: str, error: dict[str, Any], kind: type[ProviderError], status: int
):
    said = {"message": "Why.", **error}
    match form:
        case "response.failed":
            event = {"type": form, "response": {"error": said}}
        case "error":
            event = said | {"type": form, "code": error.get("code") or error.get("type")}
        case _:
            event = {"type": "error", "error": said}
    with pytest.raises(kind, match="Why") as caught:
        await reply_to(events(item(0, message("a")), event))
    assert type(caught.value) is kind
    assert caught.value.status == status


async def test_a_server_without_this_api_is_explained():
    with pytest.raises(ProviderRejected) as caught:
        await offline("openai-responses", b'{"detail":"Not Found"}', status=404, headers=JSON).complete(
            request(), ignore
        )
    assert "openai-chat:NAME" in caught.value.hint


# Requests


BODY = {
    "model": "model-1",
    "instructions": "You are a clerk.",
    "max_output_tokens": 99,
    "temperature": 0.25,
    "reasoning": {"effort": "low"},
    "stream": True,
    "store": False,
    "include": ["reasoning.encrypted_content"],
    "prompt_cache_key": "ses_1",
    "text": {
        "format": {
            "type": "json_schema",
            "name": "answer",
            "schema": {"type": "object", "properties": {"n": {"type": "integer"}}},
            "strict": False,
        }
    },
    "input": [
        {"role": "user", "content": "Go."},
        {
            "role": "user",
            "content": [
                {
                    "type": "input_image",
                    "detail": "auto",
                    "image_url": "data:image/png;base64,iVBORw0KGgogbm90IG11Y2ggb2YgYSBwaWN0dXJlIP8=",
                },
                {"type": "input_text", "text": "What is it?"},
            ],
        },
        {
            "type": "function_call",
            "call_id": "call_1_1",
            "name": "files__read",
            "arguments": '{"path": "a", "n": 1.0}',
        },
        {
            "type": "function_call",
            "call_id": "call_1_2",
            "name": "no__such",
            "arguments": '{"malformed_arguments":"{oops"}',
        },
        {"type": "function_call_output", "call_id": "call_1_1", "output": '{"ok":true}'},
        {"type": "function_call_output", "call_id": "call_1_2", "output": '{"ok":false}'},
        {"role": "user", "content": "And?"},
    ],
    "tools": [
        {
            "type": "function",
            "name": "files__read",
            "description": READ.description,
            "parameters": SCHEMA,
            "strict": False,
        },
        {
            "type": "function",
            "name": "search",
            "description": SEARCH.description,
            "parameters": SEARCH.parameters,
            "strict": False,
        },
    ],
}


async def test_everything_that_was_asked_reaches_the_wire():
    calls = (AskedCall("1.1", "files.read", '{"path": "a", "n": 1.0}'), AskedCall("1.2", "no.such", "{oops"))
    asked = request(
        settings=ModelSettings(temperature=0.25, max_tokens=99, stop=("END",), reasoning="low"),
        messages=(
            UserMessage("Go."),
            UserMessage("What is it?", images=(IMAGE,)),
            UserMessage("  "),
            AssistantMessage("", calls),
            ToolMessage("1.1", "files.read", '{"ok":true}'),
            ToolMessage("1.2", "no.such", '{"ok":false}', ok=False),
            UserMessage("And?"),
        ),
        images={IMAGE.blob: PICTURE},
        returns={"type": "object", "properties": {"n": {"type": "integer"}}},
    )
    request_sent = await sent(asked)
    assert msgspec.json.decode(request_sent.content) == BODY
    assert str(request_sent.url) == "https://api.openai.com/v1/responses"
    assert request_sent.headers["authorization"] == f"Bearer {KEY}"


async def test_what_was_not_asked_for_is_left_to_the_provider():
    body = await body_of(request(system="", tools=(), messages=(UserMessage("Hi."),)))
    assert set(body) == {"model", "max_output_tokens", "stream", "store", "include", "prompt_cache_key", "input"}


@pytest.mark.parametrize("name", ["gpt-4.1-mini", "gpt-4o", "ft:gpt-4o:acme::1", "gpt-5.2-chat-latest", "chatgpt-4o"])
async def test_models_that_never_think_are_not_asked_for_their_thoughts(name: str):
    assert "include" not in await body_of(request(model=ModelRef("live", "openai", name)))


async def test_an_answer_of_a_shape_that_can_be_enforced_is_enforced():
    fits = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    wanted = (await body_of(request(returns=fits)))["text"]["format"]
    assert wanted["strict"] is True
    assert wanted["schema"] == fits | {"additionalProperties": False}


async def test_a_stop_sequence_which_this_api_does_not_know_is_cut_off_here():
    asked = request(settings=ModelSettings(stop=("END", "\nObservation:")))
    reply = await reply_to(whole(message("Four.\nObservation: five END")), asked=asked)
    assert (reply.text, reply.stop) == ("Four.", "stop_sequence")
    assert (await reply_to(whole(message("Four.")), asked=asked)).stop == "end"


# What it thought, kept and given back


async def test_thoughts_texts_and_calls_are_given_back_in_their_order_and_verbatim():
    body = cassette("openai-responses_tools")
    reply = msgspec.structs.replace(
        await reply_to(body, asked=request(model=MODEL)),
        calls=tuple(AskedCall(f"1.{n}", "files.read", '{"path":"x"}') for n in (1, 2, 3)),
    )
    thoughts = [part.raw for part in reply.reasoning if '"reasoning"' in part.raw]
    assert all(raw.encode() in body for raw in thoughts)
    assert reply.reasoning[0].text == "Both files are needed."
    first, second = map(msgspec.json.decode, thoughts)
    assert await input_after(reply) == [
        first,
        {"role": "assistant", "content": reply.text, "phase": "commentary"},
        second,
        *[
            {
                "type": "function_call",
                "call_id": f"call_1_{n}",
                "name": "files__read",
                "arguments": '{"path":"x"}',
            }
            for n in (1, 2, 3)
        ],
    ]


async def test_a_reply_without_thoughts_needs_nothing_kept():
    assert (await reply_to(whole(message("a"), call(1), call(2)))).reasoning == ()


async def test_calls_between_thoughts_stay_between_them():
    reply = await reply_to(whole(thought(1), call(1), call(2), thought(2), call(3)), asked=request(model=MODEL))
    kinds = [each.get("id") or each["call_id"] for each in await input_after(reply)]
    assert kinds == ["rs_1", "call_c1", "call_c2", "rs_2", "call_c3"]


async def test_two_messages_of_one_reply_are_one_text_here_and_two_there():
    items = (message("Look.", phase="commentary"), thought(1), message("Done.", phase="final_answer"))
    reply = await reply_to(whole(*items), asked=request(model=MODEL))
    assert reply.text == f"Look.{BETWEEN}Done."
    back = await input_after(reply)
    assert [(each.get("content"), each.get("phase")) for each in back] == [
        ("Look.", "commentary"),
        (None, None),
        ("Done.", "final_answer"),
    ]


async def test_of_a_text_that_was_redacted_nothing_is_lost_or_said_twice():
    items = (message("My key is k.", phase="commentary"), thought(1), message("Done.", phase="final_answer"))
    reply = await reply_to(whole(*items), asked=request(model=MODEL))
    changed = msgspec.structs.replace(reply, text="My key is [redacted]. Done.")
    back = await input_after(changed)
    assert [each["content"] for each in back if "content" in each] == ["My key is [redacted]. Done."]


async def test_thoughts_that_nothing_follows_are_left_out_since_the_api_refuses_them():
    cut = {"type": "response.incomplete", "response": {"incomplete_details": {"reason": "max_output_tokens"}}}
    reply = await reply_to(events(item(0, thought(1)), cut), asked=request(model=MODEL))
    assert (reply.text, reply.stop, len(reply.reasoning)) == ("", "length", 1)
    assert await input_after(reply) == []


async def test_a_thought_that_is_only_a_reference_is_not_kept():
    """Nothing is stored there, so that it would refer to nothing."""
    reply = await reply_to(whole({"type": "reasoning", "id": "rs_1", "summary": []}, message("a")))
    assert reply.reasoning == ()


async def test_another_model_is_given_the_words_and_the_calls_alone():
    reply = await reply_to(cassette("openai-responses_tools"), asked=request(model=MODEL))
    back = await input_after(reply, model=msgspec.structs.replace(MODEL, name="gpt-6-astra"))
    assert [each.get("type", each.get("role")) for each in back] == ["assistant", *["function_call"] * 3]
    foreign = Reasoning("anthropic", MODEL.name, '{"type":"thinking"}')
    assert await input_after(Reply("Hi.", reasoning=(foreign,))) == [{"role": "assistant", "content": "Hi."}]
