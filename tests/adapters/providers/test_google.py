from typing import Any

import httpx2
import msgspec
import pytest

from ostler.adapters.providers.google import NOT_OURS, Google
from ostler.domain.model import (
    AskedCall,
    AssistantMessage,
    Effort,
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
    ProviderTimeout,
    RateLimited,
)
from ostler.testing.contracts.model_provider import IMAGE, PICTURE, READ, SCHEMA, SEARCH, request
from ostler.testing.wire import JSON as JSON_TYPE
from ostler.testing.wire import Answer
from tests.adapters.providers.recorded import EVENT_STREAM, JSON, KEY, cassette, cut_everywhere, ignore, offline

MODEL = ModelRef("live", "google", "gemini-3.8-flash")
OLD = ModelRef("live", "google", "gemini-2.5-flash")


async def reply_to(body: bytes, *, seen: list[str] | None = None, asked: ModelRequest | None = None) -> Reply:
    return await offline("google", body).complete(asked or request(), ignore if seen is None else seen.append)


async def sent(asked: ModelRequest, *, key: str | None = KEY) -> httpx2.Request:
    """The request as it went out."""
    seen: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return httpx2.Response(200, headers=EVENT_STREAM, content=cassette("google_text"))

    await Google(api_key=key, transport=httpx2.MockTransport(answer)).complete(asked, ignore)
    return seen[0]


async def body_of(asked: ModelRequest) -> Any:
    return msgspec.json.decode((await sent(asked)).content)


async def parts_after(reply: Reply, *, model: ModelRef = MODEL) -> list[Any]:
    """What the model is given of its own reply in the next request."""
    said = AssistantMessage(reply.text, reply.calls, reply.reasoning)
    (content,) = (await body_of(request(model=model, messages=(said,))))["contents"]
    assert content["role"] == "model"
    parts: list[Any] = content["parts"]
    return parts


def chunks(*parts: dict[str, Any], finish: str | None = "STOP", **more: Any) -> bytes:
    said: list[dict[str, Any]] = [{"candidates": [{"content": {"parts": [part]}}]} for part in parts]
    if finish is not None:
        said.append({"candidates": [{"finishReason": finish, **more}]})
    return b"".join(b"data: %b\r\n\r\n" % msgspec.json.encode(chunk) for chunk in said)


async def test_a_text_arrives_in_pieces_and_whole():
    seen: list[str] = []
    reply = await reply_to(cassette("google_text"), seen=seen)
    assert reply == Reply(
        text="Four of A-17 are left: „Grüße“, 世界 🌍\n\n- one\r\n- two",
        stop="end",
        usage=Usage(input_tokens=24, output_tokens=18),
        model="gemini-2.5-flash",
    )
    assert seen[:3] == ["Four", " of A", "-17 are left: "]
    assert "".join(seen) == reply.text


async def test_calls_keep_the_raw_arguments_and_the_ids_of_the_provider():
    reply = await reply_to(cassette("google_tools"))
    assert reply.text == "I'll read both files, then list."
    assert reply.calls == (
        AskedCall("o8n3k1ya", "files.read", '{"path":"src/main.py","lines":[1,2.5]}'),
        AskedCall("q2w8e7rt", "files.read", '{"path":"README – é.md"}'),
        AskedCall("z5x4c3vb", "stock", "{}"),
    )
    assert reply.stop == "tool_calls"
    assert reply.usage == Usage(input_tokens=2207 - 1920, output_tokens=61 + 100, cache_read_tokens=1920)


async def test_a_prompt_that_is_blocked_is_a_refusal_that_says_why():
    reply = await reply_to(cassette("google_blocked"))
    assert (reply.text, reply.stop) == ("The prompt was blocked: PROHIBITED_CONTENT.", "refusal")


async def test_a_reply_that_is_stopped_for_safety_is_a_refusal_with_what_was_said():
    reply = await reply_to(cassette("google_safety"))
    assert (reply.text, reply.stop) == ("First you", "refusal")


async def test_a_reply_at_its_length_limit_keeps_its_whole_calls():
    reply = await reply_to(cassette("google_length"))
    assert ([asked.id for asked in reply.calls], reply.stop) == (["whole1"], "length")


@pytest.mark.parametrize(
    ("finish", "stop"),
    [
        ("STOP", "end"),
        ("MAX_TOKENS", "length"),
        *[
            (reason, "refusal")
            for reason in ("SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MODEL_ARMOR")
        ],
        ("OTHER", "other"),
        ("FINISH_REASON_UNSPECIFIED", "other"),
        ("TOO_MANY_TOOL_CALLS", "other"),
        ("YET_TO_BE_INVENTED", "other"),
    ],
)
async def test_finish_reasons_are_put_in_our_words(finish: str, stop: str):
    assert (await reply_to(chunks({"text": "a"}, finish=finish))).stop == stop


async def test_a_refusal_without_a_word_says_what_the_provider_says_of_it():
    reply = await reply_to(chunks(finish="SPII", finishMessage="It has personal data."))
    assert (reply.text, reply.stop) == ("It has personal data.", "refusal")


@pytest.mark.parametrize("finish", ["MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "MALFORMED_RESPONSE"])
async def test_a_reply_that_the_api_withheld_is_an_error_that_may_be_tried_again(finish: str):
    with pytest.raises(ProviderGarbled, match=finish) as caught:
        await reply_to(chunks(finish=finish, finishMessage="Malformed function call: stock(sku="))
    assert caught.value.retryable
    assert "stock(sku=" in caught.value.message


async def test_a_conversation_that_misses_a_signature_is_not_asked_again():
    with pytest.raises(ProviderRejected):
        await reply_to(chunks(finish="MISSING_THOUGHT_SIGNATURE"))


@pytest.mark.parametrize("stream", [chunks({"text": "a"}, finish=None), b""], ids=["no reason", "empty"])
async def test_without_its_reason_there_is_no_reply(stream: bytes):
    with pytest.raises(IncompleteReply):
        await reply_to(stream)


async def test_a_reason_before_the_end_is_none():
    """Some gateways put STOP on every piece: the text goes on, and without one at its end it is cut."""
    early = chunks(finish="STOP") + chunks({"text": "Four"}, {"text": " left."}, finish=None)
    with pytest.raises(IncompleteReply):
        await reply_to(early)
    assert (await reply_to(early + chunks(finish="STOP"))).text == "Four left."


async def test_a_stream_cut_at_any_byte_of_its_two_byte_line_ends_yields_no_reply():
    """But for the very last byte: the line ends before it."""
    body = cassette("google_tools").replace(b"\n\n", b"\r\n\r\n")
    assert set((await cut_everywhere("google", body))[:-1]) == {"incomplete_reply"}
    assert (await reply_to(body)).stop == "tool_calls"


async def test_a_reason_before_anything_was_said_does_not_end_the_reply_even_if_the_rest_is_late(server, reach):
    """So do gateways that translate the thinking of another model."""
    early, rest = chunks(finish="STOP"), chunks({"text": "Four left."})
    server.answers(Answer(chunks=(early,), then="cut"), Answer(chunks=(early, rest)), Answer(chunks=(early,)))
    provider = reach("google", server.url)
    with pytest.raises(IncompleteReply):
        await provider.complete(request(), ignore)
    assert (await provider.complete(request(), ignore)).text == "Four left."
    assert (await provider.complete(request(), ignore)).text == ""


async def test_pieces_that_all_come_with_a_reason_are_one_reply(server, reach, monkeypatch):
    pieces = [chunks({"text": "x"}) for _ in range(50)]
    server.answers(Answer(chunks=tuple(pieces)))
    assert (await reach("google", server.url).complete(request(), ignore)).text == "x" * 50


async def test_only_the_first_candidate_counts_and_what_is_not_known_is_passed_over():
    other = b'data: {"candidates":[{"index":1,"content":{"parts":[{"text":"no"}]}}],"hologram":[1]}\n\n'
    image = {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}
    assert (await reply_to(other + chunks(image, {"text": "a"}))).text == "a"


ERRORS: list[tuple[int, str, type[ProviderError]]] = [
    (400, "INVALID_ARGUMENT", ProviderRejected),
    (401, "UNAUTHENTICATED", ProviderRejected),
    (403, "PERMISSION_DENIED", ProviderRejected),
    (404, "NOT_FOUND", ProviderRejected),
    (429, "RESOURCE_EXHAUSTED", RateLimited),
    (500, "INTERNAL", ProviderOverloaded),
    (503, "UNAVAILABLE", ProviderOverloaded),
    (504, "DEADLINE_EXCEEDED", ProviderTimeout),
]


@pytest.mark.parametrize(("status", "code", "kind"), ERRORS)
@pytest.mark.parametrize("form", ["body", "list", "stream"])
async def test_each_error_has_its_class(form: str, status: int, code: str, kind: type[ProviderError]):
    error = msgspec.json.encode({"error": {"code": status, "message": "Why.", "status": code}})
    match form:
        case "body":
            provider = offline("google", error, status=status, headers=JSON)
        case "list":
            provider = offline("google", b"[%b]" % error, status=status, headers=JSON)
        case _:
            provider = offline("google", chunks({"text": "a"}, finish=None) + b"data: %b\r\n\r\n" % error)
    with pytest.raises(kind, match="Why") as caught:
        await provider.complete(request(), ignore)
    assert type(caught.value) is kind
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("delay", "headers", "wait_s"),
    [
        ("17s", {}, 17.0),
        ("0.25s", {}, 0.25),
        ("17s", {"retry-after": "3"}, 3.0),
        ("soon", {}, None),
        ("-1s", {}, None),
    ],
)
@pytest.mark.parametrize("in_stream", [False, True])
async def test_google_says_how_long_to_wait_in_the_error_itself(
    delay: str, headers: dict[str, str], wait_s: float | None, in_stream: bool
):
    details = [
        {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaValue": "10"}]},
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay},
    ]
    error = msgspec.json.encode({"error": {"code": 429, "message": "Slow down.", "details": details}})
    if in_stream:
        provider = offline("google", b"data: %b\n\n" % error)
    else:
        provider = offline("google", error, status=429, headers=JSON | headers)
    with pytest.raises(RateLimited) as caught:
        await provider.complete(request(), ignore)
    assert caught.value.retry_after_s == (17.0 if in_stream and headers else wait_s)


@pytest.mark.parametrize(
    ("status", "words", "hint"),
    [
        (400, "API key not valid. Please pass a valid API key.", "GEMINI_API_KEY"),
        (403, "No.", "GEMINI_API_KEY"),
        (404, "models/x is not found", "/v1beta"),
        (429, "You exceeded your current quota, please check your plan and billing details.", "billing"),
        (400, "Thinking level MINIMAL is not supported for this model.", "settings.reasoning"),
    ],
)
async def test_errors_say_what_to_do(status: int, words: str, hint: str):
    error = msgspec.json.encode({"error": {"code": status, "message": words}})
    with pytest.raises(ProviderError) as caught:
        await offline("google", error, status=status, headers=JSON).complete(request(), ignore)
    assert hint in caught.value.hint


async def test_the_models_that_can_answer_are_listed(server, reach):
    models = {
        "models": [
            {"name": "models/gemini-3.8-flash", "supportedGenerationMethods": ["generateContent", "countTokens"]},
            {"name": "models/gemini-embedding-2", "supportedGenerationMethods": ["embedContent"]},
            {"name": "models/gemini-x"},
        ]
    }
    server.answers(
        Answer((msgspec.json.encode(models),), content_type=JSON_TYPE), Answer((b"[]",), content_type=JSON_TYPE)
    )
    provider = reach("google", server.url)
    assert await provider.list_models() == ["gemini-3.8-flash", "gemini-x"]
    assert server.asked[0].headers["x-goog-api-key"] == KEY
    with pytest.raises(ProviderGarbled):
        await provider.list_models()


# Requests


BODY = {
    "systemInstruction": {"parts": [{"text": "You are a clerk."}]},
    "generationConfig": {
        "maxOutputTokens": 99,
        "temperature": 0.25,
        "stopSequences": ["END"],
        "thinkingConfig": {"thinkingLevel": "LOW"},
        "responseMimeType": "application/json",
        "responseJsonSchema": {"type": "object", "properties": {"n": {"type": "integer"}}},
    },
    "contents": [
        {
            "role": "user",
            "parts": [
                {"text": "Go."},
                {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgogbm90IG11Y2ggb2YgYSBwaWN0dXJlIP8="}},
                {"text": "What is it?"},
            ],
        },
        {
            "role": "model",
            "parts": [
                {
                    "functionCall": {"id": "call_1_1", "name": "files__read", "args": {"path": "a", "n": 1.0}},
                    "thoughtSignature": NOT_OURS,
                },
                {"functionCall": {"id": "call_1_2", "name": "no__such", "args": {"malformed_arguments": "{oops"}}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {
                    "functionResponse": {
                        "id": "call_1_1",
                        "name": "files__read",
                        "response": {"ok": True, "data": 1.0},
                    }
                },
                {
                    "functionResponse": {
                        "id": "call_1_2",
                        "name": "no__such",
                        "response": {"error": "there is no such tool"},
                    }
                },
                {"functionResponse": {"id": "call_1_3", "name": "search", "response": {"output": "[1]"}}},
                {"text": "And?"},
            ],
        },
    ],
    "tools": [
        {
            "functionDeclarations": [
                {"name": "files__read", "description": READ.description, "parametersJsonSchema": SCHEMA},
                {"name": "search", "description": SEARCH.description, "parametersJsonSchema": SEARCH.parameters},
            ]
        }
    ],
}


async def test_everything_that_was_asked_reaches_the_wire():
    calls = (AskedCall("1.1", "files.read", '{"path": "a", "n": 1.0}'), AskedCall("1.2", "no.such", "{oops"))
    asked = request(
        model=MODEL,
        settings=ModelSettings(temperature=0.25, max_tokens=99, stop=("END",), reasoning="low"),
        messages=(
            UserMessage("Go."),
            UserMessage("What is it?", images=(IMAGE,)),
            AssistantMessage("", calls),
            UserMessage("And?"),
            ToolMessage("1.1", "files.read", '{"ok":true,"data":1.0}'),
            ToolMessage("1.2", "no.such", "there is no such tool", ok=False),
            ToolMessage("1.3", "search", "[1]"),
        ),
        images={IMAGE.blob: PICTURE},
        returns={"type": "object", "properties": {"n": {"type": "integer"}}},
    )
    request_sent = await sent(asked)
    assert msgspec.json.decode(request_sent.content) == BODY
    assert str(request_sent.url) == (
        "https://generativelanguage.googleapis.com/v1/models/gemini-3.8-flash:streamGenerateContent?alt=sse"
    )
    assert request_sent.headers["x-goog-api-key"] == KEY


async def test_what_was_not_asked_for_is_left_to_the_provider():
    body = await body_of(request(system="", tools=(), messages=(UserMessage("Hi."),)))
    assert body == {
        "contents": [{"role": "user", "parts": [{"text": "Hi."}]}],
        "generationConfig": {"maxOutputTokens": ModelSettings().max_tokens},
    }


@pytest.mark.parametrize(
    ("base_url", "path"),
    [("", "/v1/models"), ("/", "/v1/models"), ("/v1beta", "/v1beta/models"), ("/gemini/v1/", "/gemini/v1/models")],
)
async def test_the_version_of_the_api_is_the_first_unless_the_address_says_another(
    base_url: str, path: str, server, reach
):
    server.answers(Reply("hello"))
    await reach("google", server.url + base_url).complete(request(model=MODEL), ignore)
    assert server.asked[0].path.startswith(f"{path}/{MODEL.name}:")


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("tunedModels/mine", "/v1/tunedModels/mine:streamGenerateContent"),
        ("models/gemini-x", "/v1/models/gemini-x:streamGenerateContent"),
        ("a?b#c", "/v1/models/a%3Fb%23c:streamGenerateContent"),
    ],
)
async def test_a_name_is_one_place_in_the_path_whatever_is_in_it(name: str, path: str):
    url = (await sent(request(model=ModelRef("live", "google", name)))).url
    assert url.raw_path.decode() == f"{path}?alt=sse"


@pytest.mark.parametrize(
    ("name", "effort", "expected"),
    [
        ("gemini-3.8-flash", "none", {"thinkingLevel": "MINIMAL"}),
        ("gemini-3.8-flash", "medium", {"thinkingLevel": "MEDIUM"}),
        ("gemini-4-argon", "high", {"thinkingLevel": "HIGH"}),
        ("gemini-2.5-flash", "none", {"thinkingBudget": 0}),
        ("gemini-2.5-pro", "none", {"thinkingBudget": 128}),
        ("gemini-2.5-pro", "high", {"thinkingBudget": 24_576}),
    ],
)
async def test_effort_is_said_as_each_model_understands_it(name: str, effort: Effort, expected: dict[str, Any]):
    asked = request(model=ModelRef("live", "google", name), settings=ModelSettings(reasoning=effort))
    assert (await body_of(asked))["generationConfig"]["thinkingConfig"] == expected


async def test_older_models_that_take_no_schema_beside_tools_are_told_it_in_words():
    shape = {"type": "object", "properties": {"n": {"type": "integer"}}}
    body = await body_of(request(model=OLD, returns=shape))
    assert "responseJsonSchema" not in body["generationConfig"]
    assert '"properties":{"n"' in body["systemInstruction"]["parts"][0]["text"]
    alone = await body_of(request(model=OLD, returns=shape, tools=()))
    assert alone["generationConfig"]["responseJsonSchema"] == shape


# What it thought, kept and given back


async def test_signatures_are_given_back_on_the_very_parts_that_they_came_with():
    reply = await reply_to(cassette("google_tools"), asked=request(model=MODEL))
    assert [part.text for part in reply.reasoning] == ["**Reading**\n\nBoth files are needed.", ""]
    ours = tuple(AskedCall(f"1.{n}", call.name, call.arguments) for n, call in enumerate(reply.calls, 1))
    parts = await parts_after(msgspec.structs.replace(reply, calls=ours))
    assert parts == [
        {"text": "I'll read both files, then list."},
        {
            "functionCall": {
                "id": "o8n3k1ya",
                "name": "files__read",
                "args": {"path": "src/main.py", "lines": [1, 2.5]},
            },
            "thoughtSignature": "EjQKMgFyyNp8c2lnbmF0dXJlIG9mIHRoZSBmaXJzdCBjYWxs",
        },
        {"functionCall": {"id": "call_1_2", "name": "files__read", "args": {"path": "README – é.md"}}},
        {"functionCall": {"id": "call_1_3", "name": "stock", "args": {}}},
    ]


async def test_the_answer_to_a_signed_call_has_the_id_that_the_call_is_given_back_with():
    reply = await reply_to(cassette("google_tools"), asked=request(model=MODEL))
    calls = (AskedCall("1.1", "files.read", "{}"),)
    messages = (AssistantMessage("", calls, reply.reasoning), ToolMessage("1.1", "files.read", '{"ok":true}'))
    contents = (await body_of(request(model=MODEL, messages=messages)))["contents"]
    ids = [part.get("functionCall", part.get("functionResponse"))["id"] for each in contents for part in each["parts"]]
    assert ids == ["o8n3k1ya", "o8n3k1ya"]


async def test_arguments_are_not_kept_a_second_time_beside_the_call():
    """What a rule redacts in the call must not stand in the log after all."""
    reply = await reply_to(cassette("google_tools"))
    assert not [part for part in reply.reasoning if "main.py" in part.raw]


async def test_the_signature_of_a_text_stays_where_it_came():
    reply = await reply_to(cassette("google_signed"), asked=request(model=MODEL))
    signature = "EowCCokCAXLI2nwgc2lnbmF0dXJlIG9mIHRoZSB0ZXh0"
    assert await parts_after(reply) == [{"text": "Four are left."}, {"text": "", "thoughtSignature": signature}]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One, two, three.", [("One,", None), (" two,", "s"), (" three.", None)]),
        ("One, t", [("One,", None), (" t", "s")]),
        ("", [("", "s")]),
    ],
    ids=["as it was", "shortened", "withheld"],
)
async def test_a_signature_in_the_middle_of_a_text_cuts_it_there(text: str, expected: list[tuple[str, str | None]]):
    said = chunks({"text": "One,"}, {"text": " two,", "thoughtSignature": "s"}, {"text": " three."})
    reply = await reply_to(said, asked=request(model=MODEL))
    call = (AskedCall("1.1", "search", "{}"),)
    parts = await parts_after(msgspec.structs.replace(reply, text=text, calls=call))
    assert [(part["text"], part.get("thoughtSignature")) for part in parts if "text" in part] == expected


async def test_a_thought_that_is_signed_is_given_back_and_one_that_is_not_is_only_told():
    thoughts = ({"text": "I ", "thought": True}, {"text": "think.", "thought": True, "thoughtSignature": "s"})
    plain = ({"text": "And ", "thought": True}, {"text": "on.", "thought": True})
    reply = await reply_to(chunks(*thoughts, *plain, {"text": "Four."}), asked=request(model=MODEL))
    assert [part.text for part in reply.reasoning] == ["I think.", "And on."]
    assert await parts_after(reply) == [
        {"text": "I think.", "thought": True, "thoughtSignature": "s"},
        {"text": "Four."},
    ]


async def test_calls_of_another_model_are_marked_as_such_for_those_that_check():
    call = (AskedCall("1.1", "search", "{}"), AskedCall("1.2", "search", "{}"))
    foreign = Reasoning("google", "gemini-3-pro", '{"thoughtSignature":"of another","call":0}')
    reply = Reply("", calls=call, reasoning=(foreign,))
    assert [part.get("thoughtSignature") for part in await parts_after(reply)] == [NOT_OURS, None]
    assert [part.get("thoughtSignature") for part in await parts_after(reply, model=OLD)] == [None, None]
