import asyncio
import gzip
import socket
import traceback
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx2
import pytest

from ostler.adapters.providers import http
from ostler.adapters.providers.openai import OpenAI
from ostler.domain.model import ModelSettings, Reply
from ostler.kernel.errors import (
    ConfigurationError,
    IncompleteReply,
    ProviderError,
    ProviderGarbled,
    ProviderOverloaded,
    ProviderRejected,
    ProviderTimeout,
    ProviderUnreachable,
    RateLimited,
)
from ostler.testing import wire
from ostler.testing.contracts.model_provider import request
from ostler.testing.wire import Answer
from tests.adapters.providers.recorded import DIALECTS, EVENT_STREAM, JSON, KEY, begun, cassette, ignore, offline

VARIABLES = {
    "anthropic": "ANTHROPIC_API_KEY",
    "google": "GEMINI_API_KEY",
    "openai": "OPENAI_API_KEY",
    "openai-responses": "OPENAI_API_KEY",
}
EVERY = pytest.mark.parametrize("dialect", DIALECTS)
IN_WORDS = b'{"type":"error","error":{"type":"some_error","message":"These words.","code":null}}'


async def failure(dialect: str, body: bytes = b"", **answer: object) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await offline(dialect, body, **answer).complete(request(), ignore)  # type: ignore[arg-type]
    return caught.value


@EVERY
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (301, ProviderRejected),
        (400, ProviderRejected),
        (401, ProviderRejected),
        (402, ProviderRejected),
        (403, ProviderRejected),
        (404, ProviderRejected),
        (408, ProviderTimeout),
        (409, ProviderOverloaded),
        (413, ProviderRejected),
        (422, ProviderRejected),
        (425, ProviderOverloaded),
        (429, RateLimited),
        (451, ProviderRejected),
        (500, ProviderOverloaded),
        (502, ProviderOverloaded),
        (503, ProviderOverloaded),
        (504, ProviderTimeout),
        (520, ProviderOverloaded),
        (529, ProviderOverloaded),
    ],
)
async def test_every_status_has_its_error_with_the_words_of_the_provider(dialect, status, kind):
    error = await failure(dialect, IN_WORDS, status=status, headers=JSON)
    assert type(error) is kind
    assert (error.status, error.message) == (status, "These words.")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"error":"model not found"}', "model not found"),
        (b'{"object":"error","message":"too long","code":400}', "too long"),
        (b'{"detail":"Not Found"}', "Not Found"),
        (b'{"detail":[{"loc":["body"]}]}', "[{'loc': ['body']}]"),
        (b"upstream connect error", "upstream connect error"),
        (b"\xff\xfe broken", "\ufffd\ufffd broken"),
        (b"<html>Bad gateway</html>", "api.openai.com answered with HTTP status 400 and no reason."),
        (b"", "api.openai.com answered with HTTP status 400 and no reason."),
        (b"[]", "api.openai.com answered with HTTP status 400 and no reason."),
        (b'"' + b"x" * 5000 + b'"', "x" * 1000 + " …"),
        (b"no\r\n\xc2\x9b2J\x1b]0;title\x07way", "no \ufffd2J␛]0;title␇way"),
        (b'{"message":"\\u001b[31mred\\u001b[0m\\n[bold]and\\u202e more"}', "red [bold]and\ufffd more"),
        (b"[" * 50_000, "[" * 1000 + " …"),
    ],
)
async def test_whatever_a_server_says_is_put_in_words(body, words):
    assert (await failure("openai", body, status=400, headers={})).message == words


class Packed(httpx2.AsyncByteStream):
    def __init__(self, body: bytes) -> None:
        self.body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.body


NOW = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "1e999"}, None),
        ({"retry-after": "7, 8"}, None),
        ({"retry-after": "Sun, 99 Foo 2026 12:00:00 GMT"}, None),
        ({"retry-after": "Thu, 01 Jan 99999999999999999999 00:00:00 GMT"}, None),
        ({"retry-after-ms": "-1"}, 0.0),
        ({"retry-after-ms": "0.5"}, 0.0005),
        ({"retry-after": "Friday, 20-Nov-26 12:00:30 GMT"}, 30.0),
        ({"retry-after": "Fri Nov 20 12:00:30 2026"}, 30.0),
        ({"retry-after": format_datetime(NOW + timedelta(seconds=90), usegmt=True)}, 90.0),
        ({"retry-after": format_datetime(NOW - timedelta(seconds=90), usegmt=True)}, 0.0),
    ],
)
async def test_retry_after_is_understood_in_every_form(headers, wait_s):
    headers = {**JSON, "date": format_datetime(NOW, usegmt=True), **headers}
    error = await failure("anthropic", IN_WORDS, status=429, headers=headers)
    assert error.retry_after_s == wait_s


@EVERY
@pytest.mark.parametrize(
    ("status", "says", "kind"),
    [
        (400, "true", ProviderOverloaded),
        (404, "maybe", ProviderRejected),
        (429, "false", ProviderRejected),
        (503, "false", ProviderRejected),
        (503, "true", ProviderOverloaded),
        (429, "true", RateLimited),
    ],
)
async def test_a_provider_that_says_whether_to_try_again_is_believed(dialect, status, says, kind):
    headers = {**JSON, "x-should-retry": says, "retry-after": "3"}
    error = await failure(dialect, IN_WORDS, status=status, headers=headers)
    assert type(error) is kind
    assert error.retry_after_s == (3.0 if kind.retryable else None)


def test_a_date_without_the_servers_clock_is_compared_with_ours():
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=600), usegmt=True)
    assert 500 < (http.retry_after_s({"retry-after": soon}) or 0) <= 600


async def test_what_will_never_pass_names_no_time_to_wait():
    error = await failure("anthropic", IN_WORDS, status=400, headers={**JSON, "retry-after": "7"})
    assert error.retry_after_s is None


@EVERY
@pytest.mark.parametrize(
    "body",
    [
        b"data: nonsense\n\n",
        b"data: [1, 2]\n\n",
        b'data: {"type":"x\xff","model":"x\xff","modelVersion":"x\xff"}\n\n',
        b'data: {"type":7,"model":7,"modelVersion":7}\n\n',
        b'data: {"type":"x","unknown":' + b"[" * 50_000 + b"]" * 50_000 + b"}\n\n",
    ],
    ids=["no json", "no object", "no utf-8", "other types", "too deep"],
)
async def test_garbage_in_the_stream_is_garbled(dialect, body):
    error = await failure(dialect, body)
    assert type(error) is ProviderGarbled
    assert error.retryable


@EVERY
@pytest.mark.parametrize("body", [b"", b"\n\n\n", b"data: \n\n", b": ping\n\n", b"hello", b"data: {"])
async def test_a_stream_that_ends_before_the_reply_is_incomplete(dialect, body):
    assert type(await failure(dialect, body)) is IncompleteReply


@EVERY
@pytest.mark.parametrize(
    ("content_type", "body", "words"),
    [
        ("text/html", b"<html>Log in</html>", "answered with text/html where text/event-stream was expected"),
        ("application/json", b"{}", "answered with application/json where text/event-stream was expected"),
        ("application/json", IN_WORDS, "These words."),
    ],
)
async def test_an_answer_that_is_no_stream_is_garbled(dialect, content_type, body, words):
    error = await failure(dialect, body, headers={"content-type": content_type})
    assert type(error) is ProviderGarbled
    assert words in error.message
    assert "base URL" in error.hint


async def test_a_body_is_never_unpacked_because_of_two_kilobytes_a_gigabyte_may_come():
    packed = {"content-encoding": "gzip, gzip"}
    body = gzip.compress(gzip.compress(bytes(1 << 24)))
    for status, kind in ((200, ProviderGarbled), (503, ProviderOverloaded)):
        answer = httpx2.Response(status, headers={**EVENT_STREAM, **packed}, stream=Packed(body))
        provider = OpenAI(transport=httpx2.MockTransport(lambda _, answer=answer: answer))
        tracemalloc.start()
        with pytest.raises(kind):
            await provider.complete(request(), ignore)
        assert tracemalloc.get_traced_memory()[1] < 1 << 22
        tracemalloc.stop()


async def test_nobody_is_asked_for_a_packed_body(server, reach):
    server.answers(Reply("Four."))
    await reach("openai", f"{server.url}/v1").complete(request(), ignore)
    assert server.asked[0].headers["accept-encoding"] == "identity"


async def test_an_endless_reply_is_bounded(monkeypatch):
    monkeypatch.setattr(http, "REPLY_BYTES_MAX", 1000)
    assert type(await failure("openai", cassette("openai_text"))) is ProviderGarbled


@EVERY
@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_key_names_the_variable_to_check(dialect, status):
    hint = (await failure(dialect, IN_WORDS, status=status, headers=JSON)).hint
    assert VARIABLES[dialect] in hint
    assert "key_env" in hint, "the server may be one of [providers], with a variable of its own"


@EVERY
async def test_something_not_found_points_to_the_model(dialect):
    assert "model's name" in (await failure(dialect, IN_WORDS, status=404, headers=JSON)).hint


# Over real connections


@asynccontextmanager
async def listening(
    handle: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[str]:
    """The address of a server that treats every connection as `handle` does."""
    served: list[asyncio.Future[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.append(done := asyncio.get_running_loop().create_future())
        try:
            with suppress(ConnectionError):
                await handle(reader, writer)
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
        finally:
            done.set_result(None)

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield "http://{}:{}".format(*server.sockets[0].getsockname())
    await asyncio.gather(*served)


@contextmanager
def nobody() -> Iterator[str]:
    """An address where connections are refused: bound, so that nobody else takes the port, and not listening."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


@EVERY
async def test_a_connection_that_breaks_in_the_body_is_incomplete(dialect, server, reach):
    body = cassette(f"{dialect}_tools")
    server.answers(Answer(chunks=(body[: len(body) // 2],), then="cut"), Answer(chunks=(body[:-1],), then="cut"))
    provider = reach(dialect, server.url)
    for _ in range(2):
        with pytest.raises(IncompleteReply):
            await provider.complete(request(), ignore)


@pytest.mark.parametrize("dialect", [dialect for dialect in DIALECTS if dialect != "google"])
async def test_a_complete_reply_counts_even_if_the_connection_then_breaks(dialect, server, reach):
    server.answers(Answer(chunks=(cassette(f"{dialect}_text"),), then="cut"))
    reply = await reach(dialect, server.url).complete(request(), ignore)
    assert reply.text.startswith("Four of A-17")


@pytest.mark.parametrize("then", ["end", "cut"])
async def test_where_no_event_is_sure_to_be_the_last_only_an_orderly_end_is_one(then, server, reach, monkeypatch):
    monkeypatch.setattr(http, "LINGER_S", 1e-9)
    said = [
        b'data: {"candidates":[{"content":{"parts":[{"text":"%b"}]},"finishReason":"STOP"}]}\n\n' % word
        for word in (b"One, ", b"two, ", b"three.")
    ]
    server.answers(Answer(chunks=tuple(said), then=then))
    asked = reach("google", server.url).complete(request(), ignore)
    if then == "end":
        assert (await asked).text == "One, two, three."
    else:
        with pytest.raises(IncompleteReply) as caught:
            await asked
        assert caught.value.partial_text == "One, two, three."


@EVERY
async def test_a_complete_reply_does_not_wait_for_a_server_that_lingers(dialect, server, reach, monkeypatch):
    monkeypatch.setattr(http, "LINGER_S", 0.01)
    monkeypatch.setattr(http, "LISTEN_S", 0.01)
    server.answers(Answer(chunks=(cassette(f"{dialect}_text"),), then="silence"))
    reply = await reach(dialect, server.url).complete(request(settings=ModelSettings(timeout_s=600)), ignore)
    await server.idle()
    assert reply.stop == "end"


@EVERY
async def test_one_connection_serves_one_call_after_the_other(dialect, server, reach):
    provider = reach(dialect, server.url)
    server.answers(*[Answer(chunks=(cassette(f"{dialect}_text"),))] * 3)
    for _ in range(3):
        await provider.complete(request(), ignore)
    assert server.connections == 1


@EVERY
@pytest.mark.parametrize("has_begun", [False, True])
async def test_silence_ends_at_the_deadline_and_closes_the_connection(dialect, has_begun, server, reach):
    chunks = (begun(dialect),) if has_begun else ()
    server.answers(Answer(chunks=chunks, then="silence"))
    with pytest.raises(ProviderTimeout, match=r"within 0\.1 s"):
        await reach(dialect, server.url).complete(request(settings=ModelSettings(timeout_s=0.1)), ignore)
    await server.idle()


@EVERY
async def test_drops_of_text_do_not_put_the_deadline_off(dialect, reach):
    beginning = begun(dialect)

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + beginning)
        left = asyncio.ensure_future(reader.read())
        while not left.done():
            writer.write(b": still here\n\n")
            await asyncio.wait([left], timeout=0.01)

    async with listening(drip) as url:
        with pytest.raises(ProviderTimeout):
            await reach(dialect, url).complete(request(settings=ModelSettings(timeout_s=0.2)), ignore)


@EVERY
async def test_cancelling_closes_the_connection(dialect, server, reach):
    has_begun = asyncio.Event()
    server.answers(Answer(chunks=(begun(dialect),), then="silence"))
    call = asyncio.create_task(reach(dialect, server.url).complete(request(), lambda _: has_begun.set()))
    await has_begun.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await server.idle()


@EVERY
async def test_nobody_at_the_address_is_unreachable(dialect, reach):
    with nobody() as host, pytest.raises(ProviderUnreachable, match=f"{host} cannot be reached") as caught:
        await reach(dialect, f"http://{host}").complete(request(), ignore)
    assert caught.value.retryable
    assert caught.value.hint


@EVERY
@pytest.mark.parametrize("url", ["http://no-such-host.invalid", "https://no-such-host.invalid"])
async def test_a_name_that_nobody_has_is_unreachable(dialect, url, reach, monkeypatch):
    def resolve(*_: object, **__: object) -> None:
        """As the resolver does; tests ask no real one."""
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(ProviderUnreachable, match=r"no-such-host\.invalid cannot be reached") as caught:
        await reach(dialect, url).complete(request(), ignore)
    assert caught.value.retryable


@EVERY
async def test_tls_to_a_server_without_it_is_unreachable(dialect, reach):
    async def answer_in_plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(5)
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()

    async with listening(answer_in_plain) as url:
        with pytest.raises(ProviderUnreachable, match="cannot be reached"):
            await reach(dialect, url.replace("http:", "https:")).complete(request(), ignore)


@EVERY
async def test_an_answer_that_is_no_http_is_unreachable(dialect, reach):
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"SSH-2.0-OpenSSH_9.6\r\n")
        await writer.drain()

    async with listening(greet) as url:
        with pytest.raises(ProviderUnreachable, match="before a reply began"):
            await reach(dialect, url).complete(request(), ignore)


@EVERY
async def test_a_connection_that_breaks_before_an_answer_is_unreachable(dialect, reach):
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")

    async with listening(hang_up) as url:
        with pytest.raises(ProviderUnreachable, match="before a reply began"):
            await reach(dialect, url).complete(request(), ignore)


# Keys


@EVERY
@pytest.mark.parametrize(
    ("status", "body"),
    [
        (401, f'{{"error":{{"message":"Incorrect API key provided: {KEY}."}}}}'.encode()),
        (500, f"Traceback: authorization={KEY}".encode()),
        (200, f'data: {{"type":"error","error":{{"type":"api_error","message":"bad key {KEY}"}}}}\n\n'.encode()),
        (200, f"data: {KEY}\n\n".encode()),
    ],
)
async def test_a_key_is_in_no_error(dialect, status, body):
    error = await failure(dialect, body, status=status, headers=EVENT_STREAM)
    shown = [str(error), repr(error), str(error.as_dict()), *traceback.format_exception(error)]
    assert not [text for text in shown if KEY in text]


async def test_a_placeholder_is_not_taken_for_a_secret(server, reach):
    server.answers(Answer(status=404, content_type=wire.JSON, chunks=(b'{"error":"ollama has no such model"}',)))
    with pytest.raises(ProviderRejected, match="ollama has no such model"):
        await reach("openai", server.url, key="ollama").complete(request(), ignore)


@EVERY
@pytest.mark.parametrize("key", [f"{KEY}\nx", f"{KEY}é", f"{KEY}\x00"])
def test_a_key_that_no_header_can_carry_is_refused_without_showing_it(dialect, key):
    with pytest.raises(ConfigurationError) as caught:
        DIALECTS[dialect](api_key=key)
    assert KEY not in str(caught.value.as_dict())


@EVERY
async def test_a_line_break_around_a_key_is_not_part_of_it(dialect, server, reach):
    server.answers(Answer(chunks=(cassette(f"{dialect}_text"),)))
    await reach(dialect, server.url, key=f" {KEY}\n").complete(request(), ignore)
    headers = server.asked[0].headers
    names = ("x-api-key", "x-goog-api-key", "authorization")
    assert KEY in [headers.get(name, "").removeprefix("Bearer ") for name in names]


@pytest.mark.parametrize(
    "url", ["", "localhost:11434", "ftp://host/v1", "http://", "http://host:port/v1", "http://[::1"]
)
def test_a_base_url_that_is_none_is_refused(url):
    with pytest.raises(ConfigurationError, match="not an HTTP address"):
        OpenAI(base_url=url)


async def test_a_password_in_the_base_url_is_in_no_error(reach):
    with nobody() as host, pytest.raises(ProviderUnreachable) as caught:
        await reach("openai", f"http://user:hunter22@{host}/v1").complete(request(), ignore)
    assert "hunter22" not in repr((caught.value.as_dict(), caught.value, caught.value.__cause__))


# Models


@pytest.mark.parametrize(("dialect", "path"), [("anthropic", "/v1/models?limit=1000"), ("openai", "/models")])
async def test_the_models_that_answer_here_are_listed(dialect, path, server, reach):
    server.answers(
        Answer(
            content_type=wire.JSON, chunks=(b'{"data":[{"id":"a","owned_by":"x"},{"id":"\\u001b[2J"},{"id":"b"}]}',)
        ),
        Answer(content_type=wire.JSON, chunks=(b'{"object":"list","data":null}',)),
        Answer(content_type=wire.JSON, chunks=(b'{"data":[1]}',)),
        Answer(content_type=wire.JSON, status=401, chunks=(IN_WORDS,)),
        Answer(content_type=wire.JSON, then="silence"),
    )
    provider = reach(dialect, server.url)
    assert await provider.list_models() == ["a", "b"]
    assert await provider.list_models() == []
    with pytest.raises(ProviderGarbled):
        await provider.list_models()
    with pytest.raises(ProviderRejected, match=r"These words\."):
        await provider.list_models()
    with pytest.raises(ProviderTimeout):
        await provider.list_models(timeout_s=0.05)
    assert {(asked.method, asked.path) for asked in server.asked} == {("GET", path)}
