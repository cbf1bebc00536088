"""The official SDKs as oracles: the same recorded bytes give the same reply, the same question the same request."""

from typing import Any

import anthropic
import httpx2
import msgspec
import openai
import pytest
from openai.lib.streaming.chat import ChatCompletionStreamState

from ostler.adapters.providers.dialect import wire_id, with_schema
from ostler.adapters.providers.openai import OpenAI
from ostler.domain.model import (
    AssistantMessage,
    Image,
    Message,
    ModelRequest,
    ModelSettings,
    Reply,
    ToolMessage,
    UserMessage,
)
from ostler.testing.contracts.model_provider import READ, SCHEMA, SEARCH, request
from ostler.testing.wire import Answer, WireServer
from tests.adapters.providers.recorded import EVENT_STREAM, KEY, cassette, ignore

SETTINGS = ModelSettings(temperature=0.5, max_tokens=77, stop=("Observation:",), reasoning="high")
MARK = {"type": "ephemeral"}
IMAGE = Image(blob="ab" * 32, size=3, media_type="image/webp")
RETURNS = {"type": "object", "properties": {"left": {"type": "integer"}}, "required": ["left"]}
MESSAGES: list[Message] = [
    UserMessage("How many A-17 are left?", images=(IMAGE,)),
    *request().messages[1:],
    ToolMessage(call="1.2", name="search", text='{"ok":false}', ok=False),
    UserMessage(text="And?"),
]
ASKED = request(settings=SETTINGS, messages=MESSAGES, images={IMAGE.blob: b"\x00\xff\x01"}, returns=RETURNS)


def picture(data: str) -> dict[str, Any]:
    return {"type": "image", "source": {"type": "base64", "media_type": "image/webp", "data": data}}


async def ours(dialect: str, server: WireServer, reach: Any, asked: ModelRequest = ASKED) -> tuple[Reply, list[str]]:
    seen: list[str] = []
    return await reach(dialect, server.url).complete(asked, seen.append), seen


def normal(arguments: str) -> Any:
    return msgspec.json.decode(arguments or "{}")


def calls_of(reply: Reply) -> list[tuple[str, str, Any]]:
    wire = {"files.read": "files__read"}
    return [(call.id, wire.get(call.name, call.name), normal(call.arguments)) for call in reply.calls]


def anthropic_client(server: WireServer) -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(api_key=KEY, base_url=server.url, max_retries=0)


def openai_client(server: WireServer) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(api_key=KEY, base_url=server.url, max_retries=0)


ANTHROPIC_STOP = {"end": "end_turn", "tool_calls": "tool_use", "stop_sequence": "stop_sequence"}
OPENAI_STOP = {"end": "stop", "tool_calls": "tool_calls", "refusal": "stop"}


@pytest.mark.parametrize("name", ["anthropic_text", "anthropic_tools", "anthropic_thinking", "anthropic_interleaved"])
async def test_the_anthropic_sdk_reads_the_same_reply(name: str, server, reach):
    server.answers(*[Answer(chunks=(cassette(name),))] * 2)
    reply, seen = await ours("anthropic", server, reach)
    async with (
        anthropic_client(server) as client,
        client.messages.stream(model="model-1", max_tokens=77, messages=[{"role": "user", "content": "Hi."}]) as stream,
    ):
        pieces = [piece async for piece in stream.text_stream]
        message = await stream.get_final_message()
    assert pieces == seen
    assert "".join(block.text for block in message.content if block.type == "text") == reply.text
    assert [(block.id, block.name, block.input) for block in message.content if block.type == "tool_use"] == calls_of(
        reply
    )
    usage = message.usage
    assert reply.usage.input_tokens == usage.input_tokens
    assert reply.usage.output_tokens == usage.output_tokens
    assert reply.usage.cache_read_tokens == (usage.cache_read_input_tokens or 0)
    assert reply.usage.cache_write_tokens == (usage.cache_creation_input_tokens or 0)
    assert (message.stop_reason, message.model) == (ANTHROPIC_STOP[reply.stop], reply.model)


@pytest.mark.parametrize(
    "name", ["openai_text", "openai_tools", "openai_refusal", "llamacpp_text", "deepseek_reasoning"]
)
async def test_the_openai_sdk_reads_the_same_reply(name: str, server, reach):
    server.answers(*[Answer(chunks=(cassette(name),))] * 2)
    reply, _ = await ours("openai", server, reach)
    state = ChatCompletionStreamState()
    async with openai_client(server) as client:
        chunks = await client.chat.completions.create(
            model="model-1", messages=[{"role": "user", "content": "Hi."}], stream=True
        )
        async for chunk in chunks:
            state.handle_chunk(chunk)
    completion = state.get_final_completion()
    choice, usage = completion.choices[0], completion.usage
    assert (choice.message.content or "") + (choice.message.refusal or "") == reply.text
    assert [
        (call.id, call.function.name, normal(call.function.arguments)) for call in choice.message.tool_calls or ()
    ] == calls_of(reply)
    assert usage is not None
    assert usage.completion_tokens == reply.usage.output_tokens
    assert usage.prompt_tokens == reply.usage.total_tokens - reply.usage.output_tokens
    assert ((usage.prompt_tokens_details and usage.prompt_tokens_details.cached_tokens) or 0) == (
        reply.usage.cache_read_tokens
    )
    assert (choice.finish_reason, completion.model) == (OPENAI_STOP[reply.stop], reply.model)


async def test_the_anthropic_sdk_asks_the_same(server, reach):
    server.answers(*[Answer(chunks=(cassette("anthropic_text"),))] * 2)
    await ours("anthropic", server, reach)
    question: Any = {
        "model": "model-1",
        "max_tokens": 77,
        "stop_sequences": ["Observation:"],
        "system": [{"type": "text", "text": "You are a clerk.", "cache_control": MARK}],
        "messages": [
            {
                "role": "user",
                "content": [
                    picture("AP8B"),
                    {"type": "text", "text": "How many A-17 are left?", "cache_control": MARK},
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "Let me look."},
                    {"type": "tool_use", "id": "call_1_1", "name": "files__read", "input": {"path": "a"}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "call_1_1", "content": '{"ok":true,"data":"4"}'},
                    {"type": "tool_result", "tool_use_id": "call_1_2", "content": '{"ok":false}', "is_error": True},
                    {"type": "text", "text": "And?", "cache_control": MARK},
                ],
            },
        ],
        "output_config": {
            "effort": "high",
            "format": {"type": "json_schema", "schema": anthropic.transform_schema(RETURNS)},
        },
        "thinking": {"type": "adaptive", "display": "summarized"},
        "tools": [
            {"name": "files__read", "description": READ.description, "input_schema": SCHEMA},
            {
                "name": "search",
                "description": SEARCH.description,
                "input_schema": SEARCH.parameters,
                "cache_control": MARK,
            },
        ],
        # Newer models have no such parameter, and so the SDK has none; older ones still take it.
        "extra_body": {"temperature": 0.5},
    }
    async with anthropic_client(server) as client, client.messages.stream(**question) as stream:
        await stream.get_final_message()
    mine, theirs = server.asked
    assert mine.body == theirs.body
    assert (mine.method, mine.path) == (theirs.method, theirs.path)
    assert mine.headers["content-type"] == theirs.headers["content-type"]


async def test_the_openai_sdk_asks_the_same(server, reach):
    server.answers(*[Answer(chunks=(cassette("openai_text"),))] * 2)
    await ours("openai", server, reach)
    look = {"name": "files__read", "arguments": '{"path":"a"}'}
    tools = [
        {"name": "files__read", "description": READ.description, "parameters": SCHEMA},
        {"name": "search", "description": SEARCH.description, "parameters": SEARCH.parameters},
    ]
    question: Any = {
        "model": "model-1",
        "max_tokens": 77,
        "temperature": 0.5,
        "stop": ["Observation:"],
        "stream": True,
        "stream_options": {"include_usage": True},
        "reasoning_effort": "high",
        "messages": [
            {"role": "system", "content": with_schema("You are a clerk.", RETURNS)},
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": "data:image/webp;base64,AP8B"}},
                    {"type": "text", "text": "How many A-17 are left?"},
                ],
            },
            {
                "role": "assistant",
                "content": "Let me look.",
                "tool_calls": [{"id": "call_1_1", "type": "function", "function": look}],
            },
            {"role": "tool", "tool_call_id": "call_1_1", "content": '{"ok":true,"data":"4"}'},
            {"role": "tool", "tool_call_id": "call_1_2", "content": '{"ok":false}'},
            {"role": "user", "content": "And?"},
        ],
        "tools": [{"type": "function", "function": tool} for tool in tools],
    }
    async with openai_client(server) as client:
        async for _ in await client.chat.completions.create(**question):
            pass
    mine, theirs = server.asked
    assert mine.body == theirs.body
    assert (mine.method, mine.path) == (theirs.method, theirs.path)
    for header in ("authorization", "content-type"):
        assert mine.headers[header] == theirs.headers[header]


@pytest.mark.parametrize("name", ["anthropic_interleaved", "anthropic_thinking", "anthropic_tools"])
async def test_what_the_anthropic_sdk_read_is_what_is_given_back(name: str, server, reach):
    """The SDK's advice is to give back the content of a reply just as it is."""
    server.answers(*[Answer(chunks=(cassette(name),))] * 4)
    reply, _ = await ours("anthropic", server, reach)
    async with (
        anthropic_client(server) as client,
        client.messages.stream(model="model-1", max_tokens=77, messages=[{"role": "user", "content": "Hi."}]) as stream,
    ):
        message = await stream.get_final_message()
    said = AssistantMessage(reply.text, reply.calls, reply.reasoning)
    await ours("anthropic", server, reach, request(messages=[UserMessage("Hi."), said, UserMessage("Go on.")]))
    async with (
        anthropic_client(server) as client,
        client.messages.stream(
            model="model-1",
            max_tokens=77,
            messages=[{"role": "user", "content": "Hi."}, {"role": "assistant", "content": message.content}],
        ) as stream,
    ):
        await stream.get_final_message()
    mine, theirs = [asked.body["messages"][1]["content"] for asked in server.asked[2:]]
    assert [with_our_id(block) for block in theirs] == mine


def with_our_id(block: dict[str, Any]) -> dict[str, Any]:
    """A block as the SDK gives it back, without its empty fields, and the id as we would write it."""
    block = {name: value for name, value in block.items() if value is not None and name != "caller"}
    return block | ({"id": wire_id(block["id"])} if "id" in block else {})


async def test_the_openai_sdk_asks_its_own_servers_the_same(server, reach):
    """What only OpenAI's own models are asked for: a key for the cache, and a shape beside tools."""
    asked: list[Any] = []

    def answer(http: httpx2.Request) -> httpx2.Response:
        asked.append(msgspec.json.decode(http.content))
        return httpx2.Response(200, headers=EVENT_STREAM, content=cassette("openai_text"))

    provider = OpenAI(api_key=KEY, transport=httpx2.MockTransport(answer))
    await provider.complete(request(tools=(), messages=(UserMessage("Hi."),), returns=RETURNS), ignore)
    server.answers(Answer(chunks=(cassette("openai_text"),)))
    shape: Any = {**RETURNS, "additionalProperties": False}
    async with openai_client(server) as client:
        async for _ in await client.chat.completions.create(
            model="model-1",
            max_completion_tokens=request().settings.max_tokens,
            stream=True,
            stream_options={"include_usage": True},
            messages=[{"role": "system", "content": "You are a clerk."}, {"role": "user", "content": "Hi."}],
            response_format={"type": "json_schema", "json_schema": {"name": "answer", "schema": shape, "strict": True}},
            prompt_cache_key="ses_1",
        ):
            pass
    assert asked == [server.asked[0].body]


async def test_the_sdks_list_the_same_models(server, reach):
    body = b'{"object":"list","data":[{"id":"b","object":"model","created":1,"owned_by":"x"}],"has_more":false}'
    server.answers(*[Answer(content_type="application/json", chunks=(body,))] * 2)
    mine = await reach("openai", server.url).list_models()
    async with openai_client(server) as client:
        theirs = [model.id async for model in client.models.list()]
    assert mine == theirs == ["b"]
    assert server.asked[0].path == server.asked[1].path
