from typing import Any

import httpx2
import msgspec
import pytest

from ostler.adapters.providers.openai import OpenAI
from ostler.domain.model import (
    AskedCall,
    AssistantMessage,
    Image,
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
    IncompleteReply,
    ProviderError,
    ProviderGarbled,
    ProviderOverloaded,
    ProviderRejected,
    RateLimited,
)
from ostler.testing.contracts.model_provider import READ, SCHEMA, SEARCH, request
from tests.adapters.providers.recorded import EVENT_STREAM, JSON, KEY, cassette, ignore, offline


async def reply_to(body: bytes, *, seen: list[str] | None = None) -> Reply:
    return await offline("openai", body).complete(request(), ignore if seen is None else seen.append)


async def sent(asked: ModelRequest, *, base_url: str = "http://localhost:11434/v1", key: str | None = KEY) -> Any:
    """The request as it went out."""
    seen: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return httpx2.Response(200, headers=EVENT_STREAM, content=cassette("openai_text"))

    await OpenAI(api_key=key, base_url=base_url, transport=httpx2.MockTransport(answer)).complete(asked, ignore)
    return seen[0]


async def body_of(asked: ModelRequest, **to: Any) -> Any:
    return msgspec.json.decode((await sent(asked, **to)).content)


def chunks(*deltas: dict[str, Any], finish: str | None = "stop", done: bool = True) -> bytes:
    choices = [{"index": 0, "delta": delta} for delta in deltas]
    if finish is not None:
        choices.append({"index": 0, "delta": {}, "finish_reason": finish})
    lines = [b"data: %b\n\n" % msgspec.json.encode({"choices": [choice]}) for choice in choices]
    return b"".join(lines) + (b"data: [DONE]\n\n" if done else b"")


def call(index: int | None, call_id: str | None, name: str | None, arguments: str | None) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"tool_calls": [{"index": index, "id": call_id, "function": function}]}


async def test_a_text_arrives_in_pieces_and_whole():
    seen: list[str] = []
    reply = await reply_to(cassette("openai_text"), seen=seen)
    assert reply == Reply(
        text="Four of A-17 are left: „Grüße“, 世界 🌍\n\n- one\r\n- two",
        stop="end",
        usage=Usage(input_tokens=24, output_tokens=18),
        model="gpt-6.1-terra",
    )
    assert seen[:3] == ["Four", " of A", "-17 are left: "]
    assert "".join(seen) == reply.text


async def test_parallel_calls_keep_the_raw_arguments_and_the_ids_of_the_provider():
    reply = await reply_to(cassette("openai_tools"))
    assert reply.calls == (
        AskedCall("call_vpFZk7PzLxBFHHJaB4n6ocGm", "files.read", '{"path": "src/main.py", "lines": [1, 2.50]}'),
        AskedCall("call_Qe3Zt5OZ0w0uVnQ3Jm0tq9fF", "files.read", '{"path": "README – é.md"}'),
        AskedCall("call_0bG4yJc9r6o1hX2kS7dTqLpa", "stock", "{}"),
    )
    assert reply.stop == "tool_calls"
    assert reply.usage == Usage(
        input_tokens=2207 - 1920 - 128, output_tokens=61, cache_read_tokens=1920, cache_write_tokens=128
    )


async def test_ollama_numbers_all_calls_zero_and_stops_as_if_there_were_none():
    reply = await reply_to(cassette("ollama_tools"))
    assert reply.calls == (
        AskedCall("call_ab12", "stock", '{"sku":"A-17"}'),
        AskedCall("call_cd34", "stock", '{"sku":"B-2"}'),
    )
    assert reply.stop == "tool_calls"
    assert reply.usage == Usage(input_tokens=169, output_tokens=38)


async def test_llama_cpp_is_understood():
    reply = await reply_to(cassette("llamacpp_text"))
    assert (reply.text, reply.stop, reply.usage.total_tokens) == ("Four left.", "end", 24)


async def test_a_refusal_is_text_and_says_that_it_is_one():
    reply = await reply_to(cassette("openai_refusal"))
    assert (reply.text, reply.stop) == ("I'm sorry, I can't help with that.", "refusal")


async def test_reasoning_is_kept_under_its_own_name_and_is_no_text():
    reply = await reply_to(cassette("deepseek_reasoning"))
    assert reply.text == "Let me look."
    words = "They want „stock“: 世, look it up."
    assert reply.reasoning == (Reasoning("openai-chat", "model-1", f'{{"reasoning_content":"{words}"}}', words),)
    assert reply.usage == Usage(input_tokens=36, output_tokens=93, cache_read_tokens=320)
    assert reply.fingerprint == "fp_ffc7281d48_prod0820"


async def test_reasoning_that_comes_under_two_names_is_kept_once():
    reply = await reply_to(cassette("vllm_reasoning"))
    assert (reply.text, reply.reasoning[0].text) == ("Four.", "Short sum.")


async def test_what_a_filter_stopped_is_a_refusal():
    reply = await reply_to(cassette("openai_filtered"))
    assert (reply.text, reply.stop, reply.fingerprint) == ("To do that", "refusal", "fp_c064fdde7c")


async def test_reasoning_is_given_back_only_where_it_led_to_calls():
    thought = (Reasoning("openai-chat", "model-1", '{"reasoning":"Hm."}', "Hm."),)
    look = AssistantMessage("Let me look.", (AskedCall("1.1", "search", "{}"),), thought)
    messages = (UserMessage("Go."), look, ToolMessage("1.1", "search", "4"), AssistantMessage("Four.", (), thought))
    body = await body_of(request(messages=(*messages, UserMessage("And?"))))
    assert [message.get("reasoning") for message in body["messages"]] == [None, None, "Hm.", None, None, None]


async def test_of_a_reply_that_was_cut_only_whole_calls_are_kept():
    reply = await reply_to(cassette("openai_length"))
    assert [asked.id for asked in reply.calls] == ["call_whole"]
    assert reply.stop == "length"


@pytest.mark.parametrize(
    ("finish", "stop"),
    [
        ("stop", "end"),
        ("length", "length"),
        ("tool_calls", "tool_calls"),
        ("content_filter", "refusal"),
        ("yet_to_be_invented", "other"),
    ],
)
async def test_stop_reasons_are_put_in_our_words(finish: str, stop: str):
    assert (await reply_to(chunks({"content": "a"}, finish=finish))).stop == stop


@pytest.mark.parametrize(
    "deltas",
    [
        [call(0, "a", "search", '{"q"'), call(0, None, None, ": 1}"), call(1, "b", "search", "{}")],
        [call(0, "a", "search", '{"q"'), call(0, "a", "search", ": 1}"), call(0, "b", "search", "{}")],
        [call(0, "a", "search", '{"q"'), call(0, "", "", ": 1}"), call(1, "b", "search", None)],
        [call(None, "a", "search", '{"q"'), call(None, None, None, ": 1}"), call(None, "b", "search", "{}")],
        [call(1, "a", "search", '{"q": 1}'), call(2, "b", "search", "")],
    ],
    ids=["by the book", "all are zero", "empty ids", "no index", "from one"],
)
async def test_calls_are_told_apart_however_a_server_numbers_them(deltas: list[dict[str, Any]]):
    reply = await reply_to(chunks(*deltas, finish="tool_calls"))
    assert reply.calls == (AskedCall("a", "search", '{"q": 1}'), AskedCall("b", "search", "{}"))


async def test_only_the_first_choice_counts_and_what_is_not_known_is_passed_over():
    other = b'data: {"choices":[{"index":1,"delta":{"content":"no"}}],"hologram":[1]}\n\n'
    reply = await reply_to(other + chunks({"content": "a", "reasoning_content": "no", "role": None}))
    assert reply.text == "a"


@pytest.mark.parametrize(
    "stream",
    [
        chunks({"content": "a"}, finish=None),
        chunks({"content": "a"}, finish="stop", done=False),
        chunks(finish=None),
        b"data: [DONE]\n\n",
    ],
    ids=["no reason", "not done", "nothing", "only done"],
)
async def test_without_its_reason_or_its_end_there_is_no_reply(stream: bytes):
    with pytest.raises(IncompleteReply):
        await reply_to(stream)


async def test_a_call_without_a_name_is_garbled():
    with pytest.raises(ProviderGarbled):
        await reply_to(chunks(call(0, "a", None, "{}"), finish="tool_calls"))


async def test_an_error_in_the_stream_is_the_error_that_it_says():
    with pytest.raises(ProviderOverloaded, match="EngineCore") as caught:
        await reply_to(cassette("vllm_error"))
    assert caught.value.status == 500


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"message": "Why.", "type": "server_error", "code": None}, ProviderOverloaded),
        ({"message": "Why.", "code": "rate_limit_exceeded"}, RateLimited),
        ({"message": "Why.", "type": "invalid_request_error"}, ProviderRejected),
        ({"message": "Why.", "type": "insufficient_quota", "code": "insufficient_quota"}, ProviderRejected),
        ({"message": "Why.", "code": 400}, ProviderRejected),
        ({"message": "Why.", "code": 7}, ProviderOverloaded),
        ("Why.", ProviderOverloaded),
    ],
)
async def test_each_type_of_error_in_the_stream_has_its_class(error: Any, kind: type[ProviderError]):
    with pytest.raises(kind, match="Why"):
        await reply_to(b"data: %b\n\n" % msgspec.json.encode({"error": error}))


async def test_an_account_without_credit_is_not_asked_again():
    body = b'{"error":{"message":"You exceeded your current quota.","code":"insufficient_quota"}}'
    with pytest.raises(ProviderRejected, match="quota") as caught:
        await offline("openai", body, status=429, headers=JSON).complete(request(), ignore)
    assert "billing" in caught.value.hint


# Requests


async def test_everything_that_was_asked_reaches_the_wire():
    settings = ModelSettings(temperature=0.25, max_tokens=99, stop=("Observation:", "END"))
    calls = (AskedCall("1.1", "files.read", '{"path": "a", "n": 1.0}'), AskedCall("1.2", "no.such", "{oops"))
    messages = (
        UserMessage("Go."),
        UserMessage("Really."),
        AssistantMessage("", calls),
        ToolMessage("1.1", "files.read", '{"ok":true}'),
        UserMessage("And?"),
        ToolMessage("1.2", "no.such", '{"ok":false}', ok=False),
    )
    request_sent = await sent(request(settings=settings, messages=messages))
    assert msgspec.json.decode(request_sent.content) == {
        "model": "model-1",
        "max_tokens": 99,
        "temperature": 0.25,
        "stop": ["Observation:", "END"],
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [
            {"role": "system", "content": "You are a clerk."},
            {"role": "user", "content": "Go.\n\nReally."},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "call_1_1",
                        "type": "function",
                        "function": {"name": "files__read", "arguments": '{"path": "a", "n": 1.0}'},
                    },
                    {
                        "id": "call_1_2",
                        "type": "function",
                        "function": {"name": "no__such", "arguments": '{"malformed_arguments":"{oops"}'},
                    },
                ],
            },
            {"role": "tool", "tool_call_id": "call_1_1", "content": '{"ok":true}'},
            {"role": "tool", "tool_call_id": "call_1_2", "content": '{"ok":false}'},
            {"role": "user", "content": "And?"},
        ],
        "tools": [
            {
                "type": "function",
                "function": {"name": "files__read", "description": READ.description, "parameters": SCHEMA},
            },
            {
                "type": "function",
                "function": {"name": "search", "description": SEARCH.description, "parameters": SEARCH.parameters},
            },
        ],
    }
    assert str(request_sent.url) == "http://localhost:11434/v1/chat/completions"
    assert request_sent.headers["authorization"] == f"Bearer {KEY}"


async def test_what_was_not_asked_for_is_left_to_the_provider():
    body = await body_of(request(system="", tools=(), messages=(UserMessage("Hi."),)))
    assert set(body) == {"model", "max_tokens", "stream", "stream_options", "messages"}
    assert body["messages"] == [{"role": "user", "content": "Hi."}]


async def test_a_local_server_needs_no_key():
    assert "authorization" not in (await sent(request(), key=None)).headers


async def test_a_model_that_is_spoken_to_in_text_is_offered_no_native_tools():
    model = ModelRef(kind="live", provider="openai", name="model-1", tools="text")
    assert "tools" not in await body_of(request(model=model, messages=(UserMessage("Hi."),)))


@pytest.mark.parametrize(
    ("base_url", "limit"),
    [
        ("https://api.openai.com/v1", "max_completion_tokens"),
        ("https://eu.api.openai.com/v1/", "max_completion_tokens"),
        ("https://mine.openai.azure.com/openai/v1", "max_completion_tokens"),
        ("http://localhost:11434/v1", "max_tokens"),
        ("https://api.openai.com.example.org/v1", "max_tokens"),
        ("https://notopenai.com/v1", "max_tokens"),
    ],
)
async def test_each_host_gets_the_limit_that_it_heeds(base_url: str, limit: str):
    body = await body_of(request(), base_url=base_url)
    assert body[limit] == ModelSettings().max_tokens
    assert len({"max_tokens", "max_completion_tokens"} & set(body)) == 1


@pytest.mark.parametrize(
    ("name", "base_url", "effort"),
    [
        ("gpt-6.1-terra", "https://api.openai.com/v1", "none"),
        ("gpt-5.6-luna", "https://api.openai.com/v1", "none"),
        ("gpt-5.1", "https://api.openai.com/v1", None),
        ("gpt-4.1", "https://api.openai.com/v1", None),
        ("o3", "https://api.openai.com/v1", None),
        ("gpt-6.1-terra", "http://localhost:8000/v1", None),
    ],
)
async def test_models_that_take_tools_only_without_reasoning_are_told_so(name: str, base_url: str, effort: str | None):
    model = ModelRef(kind="live", provider="openai", name=name)
    assert (await body_of(request(model=model), base_url=base_url)).get("reasoning_effort") == effort
    assert "reasoning_effort" not in await body_of(request(model=model, tools=()), base_url=base_url)


async def test_a_model_without_native_tools_here_is_explained():
    words = b'{"error":{"message":"Function tools are not supported. Please use /v1/responses instead."}}'
    with pytest.raises(ProviderRejected) as caught:
        await offline("openai", words, status=400, headers=JSON).complete(request(), ignore)
    assert 'tools="text"' in caught.value.hint


OWN = "https://api.openai.com/v1"
SHAPE = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}


@pytest.mark.parametrize("base_url", [OWN, "http://localhost:8000/v1"])
async def test_a_shape_is_enforced_strictly_where_that_is_possible(base_url: str):
    body = await body_of(request(returns=SHAPE, tools=()), base_url=base_url)
    schema = {"name": "answer", "schema": SHAPE, "strict": True}
    assert body["response_format"] == {"type": "json_schema", "json_schema": schema}
    loose = {"type": "object", "properties": {"n": {"type": "integer"}}}
    body = await body_of(request(returns=loose, tools=()), base_url=base_url)
    assert body["response_format"]["json_schema"] == {"name": "answer", "schema": loose, "strict": False}


async def test_other_servers_are_told_the_shape_in_words_and_not_held_to_it_beside_tools():
    theirs = await body_of(request(returns=SHAPE))
    assert "response_format" not in theirs
    assert theirs["messages"][0]["content"].startswith("You are a clerk.\n\nYour final answer is nothing but JSON")
    own = await body_of(request(returns=SHAPE), base_url=OWN)
    assert "response_format" in own
    assert own["messages"][0]["content"] == "You are a clerk."


async def test_the_requests_of_a_session_share_a_cache_where_there_is_one():
    keys = [
        (await body_of(request(key=key), base_url=OWN))["prompt_cache_key"]
        for key in ("ses_1/2", "ses_1/3", "ses_2/2", "s" * 99)
    ]
    assert keys == ["ses_1", "ses_1", "ses_2", "s" * 64]
    assert "prompt_cache_key" not in await body_of(request())


async def test_an_effort_that_was_asked_for_is_never_replaced():
    model = ModelRef(kind="live", provider="openai", name="gpt-6.1-terra")
    body = await body_of(request(model=model, settings=ModelSettings(reasoning="high")), base_url=OWN)
    assert body["reasoning_effort"] == "high"


async def test_images_are_data_urls_before_the_words_about_them():
    image = Image(blob="ab" * 32, size=3, media_type="image/webp")
    asked = request(messages=(UserMessage("What?", images=(image,)),), images={image.blob: b"\x00\xff\x01"})
    assert (await body_of(asked))["messages"][-1] == {
        "role": "user",
        "content": [
            {"type": "image_url", "image_url": {"url": "data:image/webp;base64,AP8B"}},
            {"type": "text", "text": "What?"},
        ],
    }


async def test_a_server_that_knows_no_images_says_so_itself():
    words = b'{"error":{"message":"This model does not support image input.","code":"invalid_image"}}'
    with pytest.raises(ProviderRejected, match="does not support image input"):
        await offline("openai", words, status=400, headers=JSON).complete(request(), ignore)
