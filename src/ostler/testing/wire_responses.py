"""The Responses API of OpenAI, as the test server speaks it."""

from collections.abc import Iterator
from typing import Any

import msgspec

from ostler.domain.model import Reply, Usage
from ostler.testing.wire_dialect import Asked, Dialect, event, named_as_offered, parts

_INCOMPLETE = {"length": "max_output_tokens", "other": "max_messages"}
Events = Iterator[dict[str, Any]]


def _stream(reply: Reply, asked: Asked) -> tuple[bytes, ...]:
    """Thoughts come first, then the text, then the calls."""
    offered = (tool["name"] for tool in asked.body.get("tools") or ())
    items: list[tuple[dict[str, Any], list[dict[str, Any]]]] = [
        (_thought(number, thought.raw, thought.text), []) for number, thought in enumerate(reply.reasoning)
    ]
    if reply.text:
        items.append(_message(reply))
    for call in named_as_offered(reply.calls, offered):
        done = {"id": f"fc_{call.id}", "type": "function_call", "status": "completed", "call_id": call.id}
        done |= {"name": call.name, "arguments": call.arguments}
        deltas = [
            {"type": "response.function_call_arguments.delta", "delta": part, "item_id": done["id"]}
            for part in parts(call.arguments)
        ]
        items.append((done, deltas))
    response: dict[str, Any] = {
        "id": "resp_1",
        "object": "response",
        "model": reply.model or asked.body["model"],
        "output": [],
    }
    events = list(_events(response, items, reply))
    return tuple(event(each | {"sequence_number": number}, each["type"]) for number, each in enumerate(events))


def _events(response: dict[str, Any], items: list[tuple[dict[str, Any], list[dict[str, Any]]]], reply: Reply) -> Events:
    yield {"type": "response.created", "response": response | {"status": "in_progress"}}
    yield {"type": "response.in_progress", "response": response | {"status": "in_progress"}}
    for index, (item, deltas) in enumerate(items):
        begun = {"id": item["id"], "type": item["type"], "status": "in_progress"}
        yield {"type": "response.output_item.added", "output_index": index, "item": begun}
        yield from (delta | {"output_index": index} for delta in deltas)
        yield {"type": "response.output_item.done", "output_index": index, "item": item}
    reason = _INCOMPLETE.get(reply.stop)
    status = "completed" if reason is None else "incomplete"
    ended: dict[str, Any] = {"status": status, "output": [item for item, _ in items], "usage": _usage(reply.usage)}
    ended |= {"incomplete_details": None if reason is None else {"reason": reason}, "error": None}
    yield {"type": f"response.{status}", "response": response | ended}


def _thought(number: int, raw: str, text: str) -> dict[str, Any]:
    """As the reply has it if that is one of this dialect, else one that says the same."""
    kept = msgspec.json.decode(raw) if raw.startswith("{") else {}
    if isinstance(kept, dict) and kept.get("type") == "reasoning":
        return kept
    summary = [{"type": "summary_text", "text": text}]
    return {"id": f"rs_{number}", "type": "reasoning", "summary": summary, "encrypted_content": f"gAAA{number}"}


def _message(reply: Reply) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    kind, field = ("refusal", "refusal") if reply.stop == "refusal" else ("output_text", "text")
    content = {"type": kind, field: reply.text}
    done = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [content]}
    return done, [{"type": f"response.{kind}.delta", "delta": part, "content_index": 0} for part in parts(reply.text)]


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.total_tokens - usage.output_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cache_read_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.total_tokens,
    }


RESPONSES = Dialect(r"/responses$", _stream)
