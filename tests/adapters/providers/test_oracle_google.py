"""The official SDK of Google as an oracle: the same bytes give the same reply, the same question the same request."""

from base64 import b64encode
from typing import Any

import msgspec
import pytest
from google import genai
from google.genai import errors, types

from ostler.domain.model import ModelRef, ModelSettings, ToolMessage, UserMessage
from ostler.kernel.errors import RateLimited
from ostler.testing.contracts.model_provider import IMAGE, PICTURE, READ, SEARCH, request
from ostler.testing.wire import JSON, Answer, WireServer
from tests.adapters.providers.recorded import KEY, cassette

STOP = {"end": "STOP", "tool_calls": "STOP", "length": "MAX_TOKENS", "refusal": "SAFETY"}
SNAKES = {
    "mime_type": "mimeType",
    "parameters_json_schema": "parametersJsonSchema",
    "thinking_level": "thinkingLevel",
}
MODEL = ModelRef("live", "google", "gemini-3.8-flash")


def client_of(server: WireServer) -> genai.Client:
    return genai.Client(api_key=KEY, http_options=types.HttpOptions(base_url=server.url))


async def streamed(server: WireServer, **question: Any) -> list[types.GenerateContentResponse]:
    async with client_of(server).aio as client:
        chunks = await client.models.generate_content_stream(model=MODEL.name, **question)
        return [chunk async for chunk in chunks]


def parts_of(chunks: list[types.GenerateContentResponse]) -> list[types.Part]:
    candidates = [candidate for chunk in chunks for candidate in chunk.candidates or ()]
    return [part for each in candidates if each.content for part in each.content.parts or ()]


@pytest.mark.parametrize("name", ["text", "tools", "signed", "length", "safety"])
async def test_the_sdk_reads_the_same_reply(name: str, server, reach):
    server.answers(*[Answer(chunks=(cassette(f"google_{name}"),))] * 2)
    reply = await reach("google", server.url).complete(request(model=MODEL), lambda text: None)
    chunks = await streamed(server, contents="Hi.")
    parts = parts_of(chunks)
    assert "".join(part.text for part in parts if part.text and not part.thought) == reply.text
    assert "".join(part.text for part in parts if part.text and part.thought) == "".join(
        part.text for part in reply.reasoning
    )
    theirs = [part.function_call for part in parts if part.function_call]
    ours = [(call.id, call.name.replace(".", "__"), msgspec.json.decode(call.arguments)) for call in reply.calls]
    assert ours == [(call.id, call.name, call.args) for call in theirs]
    signatures = [b64encode(part.thought_signature).decode() for part in parts if part.thought_signature]
    kept = [msgspec.json.decode(part.raw).get("thoughtSignature") for part in reply.reasoning]
    assert [signature for signature in kept if signature] == signatures
    last = chunks[-1]
    assert last.candidates is not None
    assert last.candidates[0].finish_reason == STOP[reply.stop]
    assert last.model_version == reply.model
    usage = last.usage_metadata
    assert usage is not None
    assert usage.total_token_count == reply.usage.total_tokens
    assert (usage.cached_content_token_count or 0) == reply.usage.cache_read_tokens
    assert (usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0) == reply.usage.output_tokens


async def test_the_sdk_asks_the_same(server, reach):
    server.answers(*[Answer(chunks=(cassette("google_tools"),))] * 3)
    provider = reach("google", server.url)
    before = await provider.complete(request(model=MODEL), lambda text: None)
    asked = request(
        model=MODEL,
        settings=ModelSettings(temperature=0.5, max_tokens=77, stop=("END",), reasoning="high"),
        messages=(
            *request().messages[:1],
            msgspec.structs.replace(request().messages[1], reasoning=before.reasoning),
            *request().messages[2:],
            ToolMessage(call="1.2", name="search", text="nothing", ok=False),
            UserMessage(text="And this?", images=(IMAGE,)),
        ),
        images={IMAGE.blob: PICTURE},
        returns={"type": "object", "properties": {"n": {"type": "integer"}}},
    )
    await provider.complete(asked, lambda text: None)
    signed = next(part for part in parts_of(await streamed(server, contents="Hi.")) if part.thought_signature)
    server.answers(Answer(chunks=(cassette("google_text"),)))
    question = [
        types.UserContent(types.Part(text="How many A-17 are left?")),
        types.ModelContent(
            [
                types.Part(text="Let me look."),
                types.Part(
                    function_call=types.FunctionCall(id="o8n3k1ya", name="files__read", args={"path": "a"}),
                    thought_signature=signed.thought_signature,
                ),
            ]
        ),
        types.UserContent(
            [
                types.Part(
                    function_response=types.FunctionResponse(
                        id="o8n3k1ya", name="files__read", response={"ok": True, "data": "4"}
                    )
                ),
                types.Part(
                    function_response=types.FunctionResponse(
                        id="call_1_2", name="search", response={"error": "nothing"}
                    )
                ),
                types.Part(inline_data=types.Blob(mime_type="image/png", data=PICTURE)),
                types.Part(text="And this?"),
            ]
        ),
    ]
    declared = [
        types.FunctionDeclaration(name=name, description=tool.description, parameters_json_schema=tool.parameters)
        for name, tool in (("files__read", READ), ("search", SEARCH))
    ]
    config = types.GenerateContentConfig(
        system_instruction=types.Content(parts=[types.Part(text="You are a clerk.")]),
        temperature=0.5,
        max_output_tokens=77,
        stop_sequences=["END"],
        thinking_config=types.ThinkingConfig(thinking_level=types.ThinkingLevel.HIGH),
        response_mime_type="application/json",
        response_json_schema={"type": "object", "properties": {"n": {"type": "integer"}}},
        tools=[types.Tool(function_declarations=declared)],
    )
    await streamed(server, contents=question, config=config)
    ours, theirs = server.asked[1], server.asked[3]
    assert ours.path == theirs.path
    assert ours.headers["x-goog-api-key"] == theirs.headers["x-goog-api-key"]
    assert ours.body == _in_camels(theirs.body)


async def test_the_sdk_reads_the_same_error(server, reach):
    error = {"error": {"code": 429, "message": "Slow down.", "status": "RESOURCE_EXHAUSTED", "details": []}}
    server.answers(*[Answer(chunks=(msgspec.json.encode(error),), status=429, content_type=JSON)] * 2)
    with pytest.raises(RateLimited) as ours:
        await reach("google", server.url).complete(request(model=MODEL), lambda text: None)
    with pytest.raises(errors.ClientError) as theirs:
        await streamed(server, contents="Hi.")
    assert (ours.value.status, ours.value.message) == (theirs.value.code, theirs.value.message)


def _in_camels(value: Any) -> Any:
    """Google reads names in either spelling; the SDK writes a few in the one that is not documented."""
    if isinstance(value, dict):
        return {SNAKES.get(name, name): _in_camels(inner) for name, inner in value.items()}
    return [_in_camels(inner) for inner in value] if isinstance(value, list) else value
