"""The Chat Completions API of OpenAI, streamed, as vLLM, llama.cpp, Ollama and many others speak it too
(https://platform.openai.com/docs/api-reference/chat-streaming).

A reply is complete when a `finish_reason` was given and `[DONE]` came: the first alone may still lack its usage, the
second alone says nothing of why the model stopped.
"""

import re
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import httpx2
import msgspec

from ostler.adapters.providers.dialect import (
    CallInParts,
    EarlierTurns,
    Text,
    Turn,
    WireNames,
    arguments_object,
    asked_calls,
    image_bytes,
    model_ids,
    own_reasoning,
    turns,
    wire_id,
    with_schema,
)
from ostler.adapters.providers.http import Endpoint, bearer, key_advice
from ostler.adapters.providers.schemas import strict
from ostler.domain.model import Image, Message, ModelRequest, Reasoning, Reply, StopReason, Usage
from ostler.kernel.errors import IncompleteReply

BASE_URL = "https://api.openai.com/v1"
DIALECT = "openai-chat"
CACHE_KEY_MAX = 64

_OWN_HOSTS = ("api.openai.com", ".openai.azure.com")
"""Where OpenAI's own models answer, which differ from the rest in two parameters (regional hosts are subdomains)."""

_REASONS_UNASKED = re.compile(r"gpt-(5\.[4-9]|[6-9])")
"""Of these, Chat Completions takes function tools only if they are told not to reason; with reasoning, which is their
default, tools exist in the Responses API alone. The few that cannot be told so are refused either way."""

_STOP: dict[str, StopReason] = {
    "stop": "end",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "length": "length",
    "content_filter": "refusal",
}

_STATUS = {
    "invalid_request_error": 400,
    "BadRequestError": 400,
    "authentication_error": 401,
    "insufficient_quota": 429,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
}
"""The HTTP status that each type of error has, for errors that come when the stream has begun with status 200."""


class OpenAI:
    """Reaches models over Chat Completions. `base_url` ends where `/chat/completions` begins, mostly in `/v1`."""

    def __init__(
        self,
        *,
        api_key: str | None = None,
        base_url: str = BASE_URL,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        key = bearer("OpenAI", api_key)
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self._endpoint = Endpoint(base_url, headers=headers, secret=key, advise=_advice, transport=transport)
        self._earlier = EarlierTurns()
        host = urlsplit(base_url).hostname or ""
        self._is_own = host == _OWN_HOSTS[0] or host.endswith(_OWN_HOSTS)

    async def complete(self, request: ModelRequest, on_text: Callable[[str], None]) -> Reply:
        messages, names = self._earlier.encoded(request, _messages)
        body = msgspec.json.encode(_body(request, messages, names, is_own=self._is_own))
        text = Text(on_text)
        reading = _Reading(self._endpoint, names, text, request.model.name)
        await self._endpoint.stream(
            "/chat/completions", body, timeout_s=request.settings.timeout_s, on_data=reading.take, text=text
        )
        return reading.reply()

    async def list_models(self, *, timeout_s: float = 10.0) -> list[str]:
        """The ids of the models that answer here, in the server's order."""
        return model_ids(await self._endpoint.get("/models", timeout_s=timeout_s))

    async def close(self) -> None:
        await self._endpoint.close()


def _body(request: ModelRequest, messages: list[Any], names: WireNames, *, is_own: bool) -> dict[str, Any]:
    """`max_tokens` is refused by OpenAI's reasoning models, and its successor is ignored by Ollama, which would then
    write without limit: so each host gets the one that it heeds.
    """
    settings = request.settings
    schema = request.returns if request.model.tools == "native" else None
    system = request.system if schema is None or is_own else with_schema(request.system, schema)
    body: dict[str, Any] = {
        "model": request.model.name,
        "messages": [{"role": "system", "content": system}, *messages] if system else messages,
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_completion_tokens" if is_own else "max_tokens": settings.max_tokens,
    }
    if settings.temperature is not None:
        body["temperature"] = settings.temperature
    if settings.stop:
        body["stop"] = settings.stop
    if request.tools and request.model.tools == "native":
        body["tools"] = [
            {
                "type": "function",
                "function": {
                    "name": names.wire(tool.name),
                    "description": tool.description,
                    "parameters": tool.parameters,
                },
            }
            for tool in request.tools
        ]
        if is_own and _REASONS_UNASKED.match(request.model.name):
            body["reasoning_effort"] = "none"
    if settings.reasoning is not None:
        body["reasoning_effort"] = settings.reasoning
    # Other servers than OpenAI's own write no calls while they are held to a schema, and may not show it to the model.
    if schema is not None and (is_own or not request.tools):
        body["response_format"] = {"type": "json_schema", "json_schema": json_schema(schema)}
    if is_own:
        body["prompt_cache_key"] = cache_key(request)
    return body


def json_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema as OpenAI's structured outputs take it: enforced where it can be, else a strong hint."""
    enforced = strict(schema)
    return {"name": "answer", "schema": schema if enforced is None else enforced, "strict": enforced is not None}


def cache_key(request: ModelRequest) -> str:
    """Requests of one session share it, and are sent where their common beginning is cached."""
    return request.key.partition("/")[0][:CACHE_KEY_MAX]


def data_url(request: ModelRequest, image: Image) -> str:
    """The image as an address that holds it."""
    return f"data:{image.media_type};base64,{b64encode(image_bytes(request, image)).decode()}"


def _messages(request: ModelRequest, messages: Sequence[Message], names: WireNames) -> Iterator[dict[str, Any]]:
    for turn in turns(messages):
        yield from _messages_of(turn, request, names)


def _messages_of(turn: Turn, request: ModelRequest, names: WireNames) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = [
        {"role": "tool", "tool_call_id": wire_id(result.call), "content": result.text} for result in turn.results
    ]
    if not turn.by_model:
        said = _said(turn, request)
        return messages + ([{"role": "user", "content": said}] if said else [])
    message: dict[str, Any] = {"role": "assistant", "content": turn.text or None}
    if turn.calls:
        message["tool_calls"] = [
            {
                "id": wire_id(call.id),
                "type": "function",
                "function": {"name": names.wire(call.name), "arguments": arguments_object(call.arguments).decode()},
            }
            for call in turn.calls
        ]
        # Servers that show their reasoning want it back where it led to calls, and some refuse it everywhere else.
        for part in own_reasoning(turn.reasoning, DIALECT, request.model.name):
            message.update(msgspec.json.decode(part.raw, type=dict[str, str]))
    return [message]


def _said(turn: Turn, request: ModelRequest) -> str | list[dict[str, Any]]:
    if not turn.images:
        return turn.text
    parts: list[dict[str, Any]] = [
        {"type": "image_url", "image_url": {"url": data_url(request, image)}} for image in turn.images
    ]
    return parts + ([{"type": "text", "text": turn.text}] if turn.text else [])


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _CallDelta(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Delta(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_CallDelta] | None = None


class _Choice(msgspec.Struct):
    index: int = 0
    delta: _Delta | None = None
    finish_reason: str | None = None


class Details(msgspec.Struct):
    """Of the tokens of a prompt, those that were read from a cache, and those that were written to it."""

    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: Details | None = None


class _Error(msgspec.Struct):
    message: str | None = None
    type: str | None = None
    code: int | str | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] | None = None
    model: str | None = None
    usage: _Usage | None = None
    system_fingerprint: str | None = None
    error: _Error | str | None = None


_decode = msgspec.json.Decoder(_Chunk).decode


class _Reading:
    """Reads one reply from the chunks of its stream."""

    def __init__(self, endpoint: Endpoint, names: WireNames, text: Text, asked_model: str) -> None:
        self._endpoint = endpoint
        self._names = names
        self._text = text
        self._asked_model = asked_model
        self._thoughts: list[str] = []
        self._thoughts_field = ""
        self._calls: list[CallInParts] = []
        self._open: dict[int, CallInParts] = {}
        self._has_refused = False
        self._finish: str | None = None
        self._usage = _Usage()
        self._model = ""
        self._fingerprint = ""

    def take(self, data: bytes) -> bool:
        """Read one chunk. True at `[DONE]`."""
        if data.strip() == b"[DONE]":
            if self._finish is None:
                raise IncompleteReply("The reply ended without saying why it stopped.")
            return True
        chunk = _decode(data)
        if chunk.error is not None:
            raise self._failure(chunk.error)
        self._model = chunk.model or self._model
        self._usage = chunk.usage or self._usage
        self._fingerprint = chunk.system_fingerprint or self._fingerprint
        for choice in chunk.choices or ():
            if choice.index == 0:
                self._finish = choice.finish_reason or self._finish
                if choice.delta is not None:
                    self._add(choice.delta)
        return False

    def reply(self) -> Reply:
        stop: StopReason = _STOP.get(self._finish or "", "other")
        if self._has_refused:
            stop = "refusal"
        elif self._calls and stop == "end":  # several servers finish with `stop` after tool calls
            stop = "tool_calls"
        usage = self._usage
        return Reply(
            text=str(self._text),
            calls=asked_calls(self._calls, self._names, stop),
            stop=stop,
            usage=counted(usage.prompt_tokens, usage.completion_tokens, usage.prompt_tokens_details),
            model=self._model,
            reasoning=self._reasoning(),
            fingerprint=self._fingerprint,
        )

    def _add(self, delta: _Delta) -> None:
        if delta.content:
            self._text.say(delta.content)
        if delta.refusal:
            self._has_refused = True
            self._text.say(delta.refusal)
        if delta.reasoning_content:
            self._think("reasoning_content", delta.reasoning_content)
        elif delta.reasoning:
            self._think("reasoning", delta.reasoning)
        for part in delta.tool_calls or ():
            self._add_call(part)

    def _add_call(self, part: _CallDelta) -> None:
        """`index` tells parallel calls apart; where a server gives none, or the same to all, a new id does."""
        index = part.index if part.index is not None else max(len(self._calls) - 1, 0)
        call = self._open.get(index)
        if call is None or (part.id and call.id and part.id != call.id):
            call = self._open[index] = CallInParts()
            self._calls.append(call)
        call.id = call.id or part.id or ""
        if part.function is not None:
            call.name = call.name or part.function.name or ""
            if part.function.arguments:
                call.parts.append(part.function.arguments)

    def _think(self, field: str, words: str) -> None:
        """Servers name it in two ways; some in both at once, with the same words."""
        self._thoughts_field = self._thoughts_field or field
        self._thoughts.append(words)

    def _reasoning(self) -> tuple[Reasoning, ...]:
        words = "".join(self._thoughts)
        if not words:
            return ()
        raw = msgspec.json.encode({self._thoughts_field: words}).decode()
        return (Reasoning(dialect=DIALECT, model=self._asked_model, raw=raw, text=words),)

    def _failure(self, error: _Error | str) -> Exception:
        if isinstance(error, str):
            return self._endpoint.failure(500, error)
        status = _STATUS.get(str(error.code)) or _STATUS.get(error.type or "") or 500
        if isinstance(error.code, int) and 400 <= error.code < 600:
            status = error.code
        return self._endpoint.failure(status, error.message or "", code=str(error.code or error.type or ""))


def counted(prompt: int, output: int, details: Details | None) -> Usage:
    """OpenAI counts cached tokens within the prompt's; we count them apart."""
    details = details or Details()
    read, written = details.cached_tokens or 0, details.cache_write_tokens or 0
    return Usage(
        input_tokens=max(0, prompt - read - written),
        output_tokens=output,
        cache_read_tokens=read,
        cache_write_tokens=written,
    )


def advice(status: int, words: str) -> str:
    """What can be done about a failure, in either of OpenAI's dialects."""
    if status in (401, 403):
        return key_advice("OPENAI_API_KEY")
    if status in (402, 429) and "quota" in words:
        return "The account has no credit: see its billing page."
    if "temperature" in words:
        return "This model chooses for itself: leave settings.temperature unset."
    if "reasoning_effort" in words or "reasoning.effort" in words:
        return "This model does not reason as asked: choose another settings.reasoning, or leave it unset."
    return ""


def _advice(status: int, words: str) -> str:
    if status == 404:
        return "Check the model's name and the base URL, which mostly ends in /v1."
    if "/v1/responses" in words:
        return 'This model has native tools in another API only: choose another model, or tools="text" for this one.'
    if "response_format" in words:
        return "This server cannot be held to a schema: leave `returns` to an agent whose model can."
    return advice(status, words)
