"""How each provider says that a request is longer than the model's window, in its own words of late."""

import msgspec
import pytest

from ostler.kernel.errors import ContextTooLong, ProviderError, ProviderRejected
from ostler.testing.contracts.model_provider import request
from tests.adapters.providers.recorded import JSON, ignore, offline


def body(message: str, **more: object) -> bytes:
    return msgspec.json.encode({"error": {"message": message, **more}})


async def failure(dialect: str, said: bytes, status: int = 400) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await offline(dialect, said, status=status, headers=JSON).complete(request(), ignore)
    return caught.value


@pytest.mark.parametrize(
    ("dialect", "said"),
    [
        ("anthropic", body("prompt is too long: 208310 tokens > 200000 maximum", type="invalid_request_error")),
        ("anthropic", body("input length and `max_tokens` exceed context limit: 188240 + 21333 > 200000")),
        ("openai", body("Too many.", code="context_length_exceeded", type="invalid_request_error")),
        (
            "openai",
            body("This model's maximum context length is 4096 tokens. However, you requested 5000 tokens.", code=400),
        ),
        ("openai", body("the request exceeds the available context size, try increasing it", code=400)),
        ("openai", body("Prompt contains 40000 tokens, too large for model with 32768 maximum context length")),
        ("openai", body("This model's maximum prompt length is 131072 but the request contains 200000 tokens.")),
        ("openai-responses", body("Your input exceeds the context window of this model.", type="invalid")),
        ("openai-responses", body("Too many.", code="context_length_exceeded")),
        (
            "google",
            body(
                "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
                code=400,
                status="INVALID_ARGUMENT",
            ),
        ),
    ],
)
async def test_a_request_that_is_too_long_is_told_from_others_that_are_refused(dialect: str, said: bytes) -> None:
    assert type(await failure(dialect, said)) is ContextTooLong


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (body("max_tokens is too large: 200000. This model supports at most 16384 completion tokens."), 400),
        (
            body(
                "'max_tokens' is too large: 8000. This model's maximum context length is 4096 tokens and your request "
                "has 100 input tokens."
            ),
            400,
        ),
        (body("Invalid schema for function 'look'."), 400),
        (body("prompt is too long a word for what you are allowed"), 403),
    ],
)
async def test_what_is_refused_for_another_reason_is_not_taken_for_too_long(said: bytes, status: int) -> None:
    assert type(await failure("openai", said, status)) is ProviderRejected


async def test_an_error_of_the_server_is_no_verdict_about_the_request() -> None:
    assert (await failure("openai", body("maximum context length"), 500)).retryable


async def test_one_that_comes_within_a_stream_is_the_same() -> None:
    said = {"type": "response.failed", "response": {"error": {"code": "context_length_exceeded", "message": "Long."}}}
    with pytest.raises(ContextTooLong, match="Long"):
        await offline("openai-responses", b"data: %b\n\n" % msgspec.json.encode(said)).complete(request(), ignore)
