"""The official SDK of OpenAI as an oracle for the Responses API: the same reply, and the same request."""

from typing import Any

import msgspec
import openai
import pytest

from ostler.domain.model import ModelRef, ModelSettings, ToolMessage, UserMessage
from ostler.testing.contracts.model_provider import IMAGE, PICTURE, READ, SCHEMA, SEARCH, request
from ostler.testing.wire import Answer, WireServer
from tests.adapters.providers.recorded import KEY, cassette

STOP = {"end": "completed", "tool_calls": "completed", "refusal": "completed", "length": "incomplete"}


def client_of(server: WireServer) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(api_key=KEY, base_url=server.url, max_retries=0)


@pytest.mark.parametrize("name", ["text", "tools", "refusal", "length"])
async def test_the_sdk_reads_the_same_reply(name: str, server, reach):
    server.answers(*[Answer(chunks=(cassette(f"openai-responses_{name}"),))] * 2)
    seen: list[str] = []
    reply = await reach("openai-responses", server.url).complete(request(), seen.append)
    pieces, response = [], None
    async with client_of(server) as client:
        async for event in await client.responses.create(model="model-1", input="Hi.", stream=True):
            if event.type in ("response.output_text.delta", "response.refusal.delta"):
                pieces.append(event.delta)
            if event.type in ("response.completed", "response.incomplete"):
                response = event.response
    assert response is not None
    assert pieces == seen
    contents = [part for item in response.output if item.type == "message" for part in item.content]
    assert "".join(part.text if part.type == "output_text" else part.refusal for part in contents) == reply.text
    calls = [item for item in response.output if item.type == "function_call" and item.status == "completed"]
    ours = [(call.id, call.name.replace(".", "__"), call.arguments) for call in reply.calls]
    assert ours == [(call.call_id, call.name, call.arguments) for call in calls]
    thoughts = [item.encrypted_content for item in response.output if item.type == "reasoning"]
    kept = [msgspec.json.decode(part.raw) for part in reply.reasoning]
    assert [part["encrypted_content"] for part in kept if part["type"] == "reasoning"] == thoughts
    assert (response.status, response.model) == (STOP[reply.stop], reply.model)
    usage = response.usage
    assert usage is not None
    assert usage.output_tokens == reply.usage.output_tokens
    assert usage.input_tokens_details.cached_tokens == reply.usage.cache_read_tokens
    assert usage.input_tokens == reply.usage.total_tokens - reply.usage.output_tokens


async def test_the_sdk_asks_the_same(server, reach):
    server.answers(*[Answer(chunks=(cassette("openai-responses_text"),))] * 2)
    shape = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    asked = request(
        model=ModelRef("live", "openai", "model-1", dialect="openai-responses"),
        settings=ModelSettings(temperature=0.5, max_tokens=77, reasoning="high"),
        messages=(
            *request().messages,
            ToolMessage(call="1.2", name="search", text='{"ok":false}', ok=False),
            UserMessage(text="And this?", images=(IMAGE,)),
        ),
        images={IMAGE.blob: PICTURE},
        returns=shape,
    )
    await reach("openai-responses", server.url).complete(asked, lambda text: None)
    picture = "data:image/png;base64,iVBORw0KGgogbm90IG11Y2ggb2YgYSBwaWN0dXJlIP8="
    question: Any = {
        "model": "model-1",
        "instructions": "You are a clerk.",
        "input": [
            {"role": "user", "content": "How many A-17 are left?"},
            {"role": "assistant", "content": "Let me look."},
            {"type": "function_call", "call_id": "call_1_1", "name": "files__read", "arguments": '{"path":"a"}'},
            {"type": "function_call_output", "call_id": "call_1_1", "output": '{"ok":true,"data":"4"}'},
            {"type": "function_call_output", "call_id": "call_1_2", "output": '{"ok":false}'},
            {
                "role": "user",
                "content": [
                    {"type": "input_image", "detail": "auto", "image_url": picture},
                    {"type": "input_text", "text": "And this?"},
                ],
            },
        ],
        "tools": [
            {
                "type": "function",
                "name": name,
                "description": tool.description,
                "parameters": tool.parameters,
                "strict": False,
            }
            for name, tool in (("files__read", READ), ("search", SEARCH))
        ],
        "max_output_tokens": 77,
        "temperature": 0.5,
        "reasoning": {"effort": "high"},
        "store": False,
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "ses_1",
        "text": {
            "format": {
                "type": "json_schema",
                "name": "answer",
                "schema": shape | {"additionalProperties": False},
                "strict": True,
            }
        },
        "stream": True,
    }
    assert question["tools"][0]["parameters"] == SCHEMA
    async with client_of(server) as client:
        async for _ in await client.responses.create(**question):
            pass
    ours, theirs = server.asked
    assert ours.path == theirs.path
    assert ours.body == theirs.body
