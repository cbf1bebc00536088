"""The Messages API of Anthropic, as the test server speaks it."""

from typing import Any

import msgspec

from ostler.domain.model import AskedCall, Reply
from ostler.testing.wire_dialect import Asked, Dialect, event, named_as_offered, parts

Block = tuple[dict[str, Any], list[dict[str, Any]]]
"""How a block begins, and the deltas that follow."""

_STOP = {"end": "end_turn", "tool_calls": "tool_use", "length": "max_tokens"}


def _stream(reply: Reply, asked: Asked) -> tuple[bytes, ...]:
    usage = {
        "input_tokens": reply.usage.input_tokens,
        "cache_creation_input_tokens": reply.usage.cache_write_tokens,
        "cache_read_input_tokens": reply.usage.cache_read_tokens,
        "output_tokens": 1,
    }
    model = reply.model or asked.body["model"]
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {"id": "msg_1", "role": "assistant", "model": model, "usage": usage}},
        {"type": "ping"},
    ]
    calls = named_as_offered(reply.calls, (tool["name"] for tool in asked.body.get("tools") or ()))
    for index, (block, deltas) in enumerate(_blocks(reply, calls)):
        events.append({"type": "content_block_start", "index": index, "content_block": block})
        events.extend({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas)
        events.append({"type": "content_block_stop", "index": index})
    stop = _STOP.get(reply.stop, reply.stop)
    output = {"output_tokens": reply.usage.output_tokens}
    events.append({"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": None}, "usage": output})
    events.append({"type": "message_stop"})
    return tuple(event(data, data["type"]) for data in events)


def _blocks(reply: Reply, calls: list[AskedCall]) -> list[Block]:
    blocks = [_thought(msgspec.json.decode(part.raw)) for part in reply.reasoning]
    if reply.text:
        text = [{"type": "text_delta", "text": part} for part in parts(reply.text)]
        blocks.append(({"type": "text", "text": ""}, text))
    for call in calls:
        written = [{"type": "input_json_delta", "partial_json": part} for part in ["", *parts(call.arguments)]]
        blocks.append(({"type": "tool_use", "id": call.id, "name": call.name, "input": {}}, written))
    return blocks


def _thought(block: dict[str, Any]) -> Block:
    if block["type"] == "redacted_thinking":
        return block, []
    deltas: list[dict[str, Any]] = [
        {"type": "thinking_delta", "thinking": part} for part in parts(block.get("thinking", ""))
    ]
    deltas.append({"type": "signature_delta", "signature": block["signature"]})
    return {"type": "thinking", "thinking": "", "signature": ""}, deltas


ANTHROPIC = Dialect(r"/messages$", _stream)
