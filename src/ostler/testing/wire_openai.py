"""The Chat Completions API of OpenAI, as the test server speaks it."""

from typing import Any

from ostler.domain.model import Reply, Usage
from ostler.testing.wire_dialect import Asked, Dialect, event, named_as_offered, parts

_FINISH = {"tool_calls": "tool_calls", "length": "length", "refusal": "content_filter"}


def _stream(reply: Reply, asked: Asked) -> tuple[bytes, ...]:
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas.extend({"reasoning_content": part} for thought in reply.reasoning for part in parts(thought.text))
    deltas.extend({"content": part} for part in parts(reply.text))
    offered = (tool["function"]["name"] for tool in asked.body.get("tools") or ())
    for index, call in enumerate(named_as_offered(reply.calls, offered)):
        function = {"name": call.name, "arguments": ""}
        deltas.append({"tool_calls": [{"index": index, "id": call.id, "type": "function", "function": function}]})
        deltas.extend(
            {"tool_calls": [{"index": index, "function": {"arguments": part}}]} for part in parts(call.arguments)
        )
    choices: list[dict[str, Any]] = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    choices.append({"index": 0, "delta": {}, "finish_reason": _FINISH.get(reply.stop, "stop")})
    shared: dict[str, Any] = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1_770_000_000,
        "model": reply.model or asked.body["model"],
    }
    if reply.fingerprint:
        shared["system_fingerprint"] = reply.fingerprint
    chunks: list[dict[str, Any]] = [shared | {"choices": [choice], "usage": None} for choice in choices]
    chunks.append(shared | {"choices": [], "usage": _usage(reply.usage)})
    return (*map(event, chunks), b"data: [DONE]\n\n")


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.total_tokens - usage.output_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {
            "cached_tokens": usage.cache_read_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
    }


OPENAI_CHAT = Dialect(r"/chat/completions$", _stream)
