"""The Gemini API of Google, streamed (https://ai.google.dev/api/generate-content).

Its stream has no last event: a reply is complete when a `finishReason` was given after something was said, and nothing
more comes.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any
from urllib.parse import quote

import httpx2
import msgspec

from ostler.adapters.providers.dialect import (
    CallInParts,
    EarlierTurns,
    Text,
    WireNames,
    arguments_object,
    asked_calls,
    image_bytes,
    is_object,
    own_reasoning,
    wire_id,
)
from ostler.adapters.providers.http import Endpoint, bearer, key_advice, retry_delay_s
from ostler.domain.model import (
    AssistantMessage,
    Message,
    ModelRequest,
    Reasoning,
    Reply,
    StopReason,
    ToolMessage,
    Usage,
    UserMessage,
)
from ostler.kernel.errors import ProviderGarbled, ProviderRejected

BASE_URL = "https://generativelanguage.googleapis.com"
DIALECT = "google"
MODELS_MAX = 1000

NOT_OURS = "skip_thought_signature_validator"
"""The signature that Google documents for calls that another model asked for: without any, they are refused."""

_VERSIONED = re.compile(r"/v[0-9]\w*/?$")

_COUNTS_THOUGHTS = re.compile(r"gemini-2\b")
"""Models that are told how many tokens to think, not how hard, and that take no schema for the answer beside tools."""

_LEVELS = {"none": "MINIMAL", "low": "LOW", "medium": "MEDIUM", "high": "HIGH"}
_BUDGETS = {"none": 0, "low": 1024, "medium": 8192, "high": 24_576}
"""As Google itself translates the words, for its interface in the manner of OpenAI."""
_BUDGET_OF_PRO_MIN = 128

_STOP: dict[str, StopReason] = {
    "STOP": "end",
    "MAX_TOKENS": "length",
    "SAFETY": "refusal",
    "RECITATION": "refusal",
    "LANGUAGE": "refusal",
    "BLOCKLIST": "refusal",
    "PROHIBITED_CONTENT": "refusal",
    "SPII": "refusal",
    "IMAGE_SAFETY": "refusal",
    "IMAGE_PROHIBITED_CONTENT": "refusal",
    "IMAGE_RECITATION": "refusal",
    "ESCALATION": "refusal",
    "PUP_LIMITED_DISABLED": "refusal",
    "MODEL_ARMOR": "refusal",
}

_MALFORMED = {"MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "MALFORMED_RESPONSE"}
"""What the model wrote was no reply that the API could read, and all of it is withheld; mostly it fares better anew."""


class Google:
    """Reaches models over the Gemini API. `base_url` may say which version of it (`…/v1beta`); else it is v1."""

    def __init__(
        self,
        *,
        api_key: str | None = None,
        base_url: str = BASE_URL,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        key = bearer("Google", api_key)
        headers = {"x-goog-api-key": key} if key else {}
        if not _VERSIONED.search(base_url):
            base_url = f"{base_url.rstrip('/')}/v1"
        self._endpoint = Endpoint(base_url, headers=headers, secret=key, advise=_advice, transport=transport)
        self._earlier = EarlierTurns()

    async def complete(self, request: ModelRequest, on_text: Callable[[str], None]) -> Reply:
        contents, names = self._earlier.encoded(request, _contents)
        body = msgspec.json.encode(_body(request, contents, names))
        reading = _Reading(self._endpoint, request.model.name, names, Text(on_text))
        path = f"/{_resource(request.model.name)}:streamGenerateContent?alt=sse"
        await self._endpoint.stream(
            path,
            body,
            timeout_s=request.settings.timeout_s,
            on_data=reading.take,
            text=reading.text,
            is_whole=reading.is_whole,
        )
        return reading.reply()

    async def list_models(self, *, timeout_s: float = 10.0) -> list[str]:
        """The names of the models that can answer, in the server's order."""
        body = await self._endpoint.get(f"/models?pageSize={MODELS_MAX}", timeout_s=timeout_s)
        try:
            models = msgspec.json.decode(body, type=_Models).models
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise ProviderGarbled("The list of models is not in the format that the provider documents.") from error
        names = [model.name.removeprefix("models/") for model in models if model.can_answer]
        return [name for name in names if name.isprintable()]

    async def close(self) -> None:
        await self._endpoint.close()


def _resource(model: str) -> str:
    return quote(model if "/" in model else f"models/{model}", safe="/")


def _body(request: ModelRequest, contents: list[Any], names: WireNames) -> dict[str, Any]:
    settings, model = request.settings, request.model.name
    tools = request.tools if request.model.tools == "native" else ()
    config: dict[str, Any] = {"maxOutputTokens": settings.max_tokens}
    if settings.temperature is not None:
        config["temperature"] = settings.temperature
    if settings.stop:
        config["stopSequences"] = settings.stop
    if settings.reasoning is not None:
        config["thinkingConfig"] = _thinking(model, settings.reasoning)
    system = request.system
    if request.returns is None or request.model.tools == "text":
        pass
    elif tools and _COUNTS_THOUGHTS.match(model):
        schema = msgspec.json.encode(request.returns).decode()
        system = f"{system}\n\nYour final answer is JSON that fits this JSON Schema: {schema}".strip()
    else:
        config |= {"responseMimeType": "application/json", "responseJsonSchema": request.returns}
    body: dict[str, Any] = {"contents": contents, "generationConfig": config}
    if system:
        body["systemInstruction"] = {"parts": [{"text": system}]}
    if tools:
        declared = [
            {"name": names.wire(tool.name), "description": tool.description, "parametersJsonSchema": tool.parameters}
            for tool in tools
        ]
        body["tools"] = [{"functionDeclarations": declared}]
    return body


def _thinking(model: str, effort: str) -> dict[str, Any]:
    if not _COUNTS_THOUGHTS.match(model):
        return {"thinkingLevel": _LEVELS[effort]}
    least = _BUDGET_OF_PRO_MIN if "pro" in model else 0
    return {"thinkingBudget": max(least, _BUDGETS[effort])}


Parts = Iterator[dict[str, Any]]


def _contents(request: ModelRequest, messages: Sequence[Message], names: WireNames) -> Iterator[dict[str, Any]]:
    """The messages as contents that alternate between the two sides; results of calls come first in theirs."""
    for by_model, group in groupby(messages, lambda message: isinstance(message, AssistantMessage)):
        if by_model:
            said = (_said(message, request.model.name, names) for message in group)
            parts = [part for each in said for part in each]
        else:
            parts = list(_parts_of_user(list(group), request, names))
        if parts:
            yield {"role": "model" if by_model else "user", "parts": parts}


def _parts_of_user(messages: Sequence[Message], request: ModelRequest, names: WireNames) -> Parts:
    for message in messages:
        if isinstance(message, ToolMessage):
            said = {"id": names.ids.get(message.call, wire_id(message.call)), "name": names.wire(message.name)}
            yield {"functionResponse": said | {"response": _response(message)}}
    for message in messages:
        if isinstance(message, UserMessage):
            for image in message.images:
                yield {"inlineData": {"mimeType": image.media_type, "data": image_bytes(request, image)}}
            if message.text.strip():
                yield {"text": message.text}


def _response(message: ToolMessage) -> dict[str, str] | msgspec.Raw:
    """An object is told as it is. Anything else gets the name that Google knows for what came or went wrong."""
    if is_object(message.text):
        return msgspec.Raw(message.text.encode())
    return {"output" if message.ok else "error": message.text}


class _Signed(msgspec.Struct, omit_defaults=True):
    """A signature as it came, and where: on the call of this number, which had this id, or on so many characters of
    the text from `at` on, or on a thought.
    """

    signature: str = msgspec.field(default="", name="thoughtSignature")
    call: int | None = None
    id: str = ""
    at: int | None = None
    characters: int = 0
    is_thought: bool = msgspec.field(default=False, name="thought")


def _said(message: Message, model: str, names: WireNames) -> Parts:
    assert isinstance(message, AssistantMessage), "only what the model said has a side of its own"
    own = own_reasoning(message.reasoning, DIALECT, model)
    signed = [(msgspec.json.decode(part.raw, type=_Signed), part.text) for part in own]
    for each, thought in signed:
        if each.is_thought and each.signature:
            yield {"text": thought, "thought": True, "thoughtSignature": each.signature}
    yield from _text_parts(message.text, [each for each, _ in signed if each.at is not None])
    of_calls = {each.call: each for each, _ in signed if each.call is not None}
    for number, call in enumerate(message.calls):
        signature = of_calls.get(number, _Signed())
        names.ids[call.id] = signature.id or wire_id(call.id)
        arguments = msgspec.Raw(arguments_object(call.arguments))
        said = {"id": names.ids[call.id], "name": names.wire(call.name), "args": arguments}
        part: dict[str, Any] = {"functionCall": said}
        if signature.signature:
            part["thoughtSignature"] = signature.signature
        elif number == 0 and not _COUNTS_THOUGHTS.match(model):
            part["thoughtSignature"] = NOT_OURS
        yield part


def _text_parts(text: str, signed: list[_Signed]) -> Parts:
    """The text, cut so that each signature is on the very characters that it came with; if they are gone, on none."""
    done = 0
    for each in signed:
        begin = max(done, min(each.at or 0, len(text)))
        end = min(begin + each.characters, len(text))
        if text[done:begin].strip():
            yield {"text": text[done:begin]}
        yield {"text": text[begin:end], "thoughtSignature": each.signature}
        done = end
    if text[done:].strip():
        yield {"text": text[done:]}


class _Call(msgspec.Struct):
    name: str = ""
    id: str | None = None
    args: msgspec.Raw = msgspec.Raw(b"{}")


class _Part(msgspec.Struct, rename="camel"):
    text: str | None = None
    thought: bool = False
    thought_signature: str | None = None
    function_call: _Call | None = None


class _Content(msgspec.Struct):
    parts: list[_Part] | None = None


class _Candidate(msgspec.Struct, rename="camel"):
    index: int = 0
    content: _Content | None = None
    finish_reason: str | None = None
    finish_message: str | None = None


class _Feedback(msgspec.Struct, rename="camel"):
    block_reason: str | None = None
    block_reason_message: str | None = None


class _Usage(msgspec.Struct, rename="camel"):
    prompt_token_count: int | None = None
    tool_use_prompt_token_count: int | None = None
    cached_content_token_count: int | None = None
    candidates_token_count: int | None = None
    thoughts_token_count: int | None = None


class _Error(msgspec.Struct):
    code: int | None = None
    message: str | None = None
    status: str | None = None


class _Chunk(msgspec.Struct, rename="camel"):
    candidates: list[_Candidate] | None = None
    prompt_feedback: _Feedback | None = None
    usage_metadata: _Usage | None = None
    model_version: str | None = None
    error: _Error | None = None


class _Model(msgspec.Struct, rename="camel"):
    name: str
    supported_generation_methods: list[str] | None = None

    @property
    def can_answer(self) -> bool:
        methods = self.supported_generation_methods
        return methods is None or "generateContent" in methods


class _Models(msgspec.Struct):
    models: list[_Model] = []


_decode = msgspec.json.Decoder(_Chunk).decode


class _Reading:
    """Reads one reply from the chunks of its stream."""

    def __init__(self, endpoint: Endpoint, asked_model: str, names: WireNames, text: Text) -> None:
        self.text = text
        self._endpoint = endpoint
        self._asked_model = asked_model
        self._names = names
        self._calls: list[CallInParts] = []
        self._ids: set[str] = set()
        self._reasoning: list[tuple[_Signed, str]] = []
        self._finish: str | None = None
        self._why = ""
        self._usage = _Usage()
        self._model = ""

    def take(self, data: bytes) -> bool:
        """Read one chunk. Whether it ends the reply as far as it is known now."""
        chunk = _decode(data)
        if chunk.error is not None:
            status, words = chunk.error.code or 500, chunk.error.message or ""
            code = chunk.error.status or ""
            raise self._endpoint.failure(status, words, code=code, retry_after_s=retry_delay_s(data))
        self._model = chunk.model_version or self._model
        self._usage = chunk.usage_metadata or self._usage
        for candidate in chunk.candidates or ():
            if candidate.index == 0:
                self._add(candidate)
        feedback = chunk.prompt_feedback
        if feedback is not None and feedback.block_reason:
            self._finish = "SAFETY"
            self._why = feedback.block_reason_message or f"The prompt was blocked: {feedback.block_reason}."
        has_said = self.text.size > 0 or bool(self._calls)
        return self._finish is not None and (has_said or self._finish != "STOP")

    def is_whole(self) -> bool:
        """Whether the reply is complete if there is no more."""
        return self._finish is not None

    def reply(self) -> Reply:
        finish = self._finish or ""
        if finish in _MALFORMED:
            raise ProviderGarbled(f"The model wrote what its API could not read ({finish}). {self._why}".strip())
        if finish == "MISSING_THOUGHT_SIGNATURE":
            raise ProviderRejected("The model misses the signature of a thought of its own in this conversation.")
        stop = _STOP.get(finish, "other")
        calls = asked_calls(self._calls, self._names, stop)
        text = str(self.text)
        return Reply(
            text=text or (self._why if stop == "refusal" else ""),
            calls=calls,
            stop="tool_calls" if calls and stop == "end" else stop,
            usage=_counted(self._usage),
            model=self._model,
            reasoning=tuple(self._kept()),
        )

    def _add(self, candidate: _Candidate) -> None:
        parts = (candidate.content.parts if candidate.content else None) or ()
        for part in parts:
            self._add_part(part)
        if parts or candidate.finish_reason:  # a reason that is given before the end is none
            self._finish = candidate.finish_reason
        self._why = candidate.finish_message or self._why

    def _add_part(self, part: _Part) -> None:
        signature = part.thought_signature or ""
        if part.function_call is not None:
            asked = part.function_call
            if asked.id in self._ids:
                return  # the same once more
            if asked.id:
                self._ids.add(asked.id)
            if signature:
                number = len(self._calls)
                self._reasoning.append((_Signed(signature, call=number, id=asked.id or ""), ""))
            self._calls.append(CallInParts(asked.id or "", asked.name, bytes(asked.args).decode()))
        elif part.thought:
            self._reasoning.append((_Signed(signature, is_thought=True), part.text or ""))
        elif part.text is not None:
            if signature:
                self._reasoning.append((_Signed(signature, at=self.text.size, characters=len(part.text)), ""))
            if part.text:
                self.text.say(part.text)

    def _kept(self) -> Iterable[Reasoning]:
        """Thoughts are put together from their pieces; a piece that is signed ends one."""
        thought = ""
        for signed, text in self._reasoning:
            if signed.is_thought and not signed.signature:
                thought += text
                continue
            if thought and not signed.is_thought:
                yield self._as_reasoning(_Signed(is_thought=True), thought)
                thought = ""
            yield self._as_reasoning(signed, thought + text)
            thought = ""
        if thought:
            yield self._as_reasoning(_Signed(is_thought=True), thought)

    def _as_reasoning(self, signed: _Signed, text: str) -> Reasoning:
        return Reasoning(DIALECT, self._asked_model, msgspec.json.encode(signed).decode(), text)


def _counted(usage: _Usage) -> Usage:
    """Google counts cached tokens within the prompt's, and thoughts apart from the candidates'."""
    read = usage.cached_content_token_count or 0
    prompt = (usage.prompt_token_count or 0) + (usage.tool_use_prompt_token_count or 0)
    return Usage(
        input_tokens=max(0, prompt - read),
        output_tokens=(usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0),
        cache_read_tokens=read,
    )


def _advice(status: int, words: str) -> str:
    if status in (401, 403) or "API key" in words:
        return key_advice("GEMINI_API_KEY")
    if status == 404:
        return "Check the model's name; some, such as those that end in -latest, need a base URL that ends in /v1beta."
    if status == 429 and "billing" in words:
        return "The quota of the key's project is used up: see its plan and billing page."
    if "hinking" in words:
        return "This model does not reason as asked: choose another settings.reasoning, or leave it unset."
    return ""
