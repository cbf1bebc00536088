"""The Gemini API of Google, as the test server speaks it."""

import re
from typing import Any

import msgspec

from ostler.domain.model import Reply, Usage
from ostler.testing.wire_dialect import Asked, Dialect, event, named_as_offered, parts

_FINISH = {"length": "MAX_TOKENS", "refusal": "SAFETY", "other": "OTHER"}
_MODEL = re.compile(r"/([^/]+):streamGenerateContent")


def _stream(reply: Reply, asked: Asked) -> tuple[bytes, ...]:
    """Thoughts come first, then the text, then the calls, as whole parts. A call whose arguments are no object, which
    this format cannot carry, ends the reply as it does at Google.
    """
    offered = (tool["name"] for group in asked.body.get("tools") or () for tool in group["functionDeclarations"])
    said: list[dict[str, Any]] = []
    on_calls: dict[int, str] = {}
    after_text: list[dict[str, Any]] = []
    for thought in reply.reasoning:
        signature = _signature(thought.raw)
        if "call" in signature:
            on_calls[signature["call"]] = signature["thoughtSignature"]
        elif "at" in signature:
            after_text.append({"text": "", "thoughtSignature": signature["thoughtSignature"]})
        else:
            said.append({"text": thought.text, "thought": True} | signature)
    said.extend({"text": part} for part in parts(reply.text))
    said.extend(after_text)
    finish = _FINISH.get(reply.stop, "STOP")
    for number, call in enumerate(named_as_offered(reply.calls, offered)):
        if not _is_object(call.arguments):
            said, finish = [], "MALFORMED_FUNCTION_CALL"
            break
        part: dict[str, Any] = {"functionCall": {"name": call.name, "args": msgspec.Raw(call.arguments.encode())}}
        if call.id:
            part["functionCall"]["id"] = call.id
        if number in on_calls:
            part["thoughtSignature"] = on_calls[number]
        said.append(part)
    found = _MODEL.search(asked.path)
    shared = {"modelVersion": reply.model or (found[1] if found else ""), "responseId": "resp_1"}
    chunks = [_chunk([part], None) | {"usageMetadata": _usage(Usage(reply.usage.input_tokens, 1))} for part in said]
    chunks.append(_chunk([], finish) | {"usageMetadata": _usage(reply.usage)})
    return tuple(event(chunk | shared) for chunk in chunks)


def _signature(raw: str) -> dict[str, Any]:
    kept = msgspec.json.decode(raw) if raw.startswith("{") else {}
    return kept if isinstance(kept, dict) and {"thoughtSignature", "thought"} & kept.keys() else {}


def _is_object(arguments: str) -> bool:
    try:
        return isinstance(msgspec.json.decode(arguments), dict)
    except msgspec.DecodeError:
        return False


def _chunk(said: list[dict[str, Any]], finish: str | None) -> dict[str, Any]:
    candidate: dict[str, Any] = {"index": 0, "content": {"role": "model", "parts": said}}
    return {"candidates": [candidate | ({"finishReason": finish} if finish else {})]}


def _usage(usage: Usage) -> dict[str, int]:
    prompt = usage.total_tokens - usage.output_tokens
    return {
        "promptTokenCount": prompt,
        "candidatesTokenCount": usage.output_tokens,
        "cachedContentTokenCount": usage.cache_read_tokens,
        "totalTokenCount": prompt + usage.output_tokens,
    }


GEMINI = Dialect(r":streamGenerateContent", _stream)
