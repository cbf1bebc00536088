"""Servers of embeddings, well and unwell: what is asked of them, and what is made of what they answer."""

import math
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from ostler.adapters.embedders.ollama import OllamaEmbedder
from ostler.adapters.embedders.openai import OpenAIEmbedder
from ostler.adapters.embedders.served import BATCH_TEXTS, TEXT_BYTES_MAX, Model, ServedEmbedder
from ostler.kernel.errors import ConfigurationError, EmbedderError, TextRefused
from ostler.testing.wire import JSON, Answer, WireServer
from ostler.testing.wire_embeddings import Embeddings, json_answer, packed, vector_of

KEY = "sk-very-secret-key"


@pytest.fixture
async def server() -> AsyncIterator[WireServer]:
    async with WireServer() as server:
        server.otherwise = Embeddings().answer
        yield server


def openai(server: WireServer, model: Model | None = None, **options: Any) -> OpenAIEmbedder:
    return OpenAIEmbedder(model or Model("text-embedding-3-small"), f"{server.url}/v1", **options)


def ollama(server: WireServer, model: Model | None = None, **options: Any) -> OllamaEmbedder:
    return OllamaEmbedder(model or Model("bge-m3"), server.url, **options)


Made = Callable[..., ServedEmbedder]
both = pytest.mark.parametrize("make", [openai, ollama])


async def test_openai_is_asked_as_it_documents(server: WireServer) -> None:
    embedder = openai(server, Model("text-embedding-3-small", 8), api_key=KEY)
    await embedder.embed(["one", "two"])
    await embedder.close()
    (asked,) = server.asked
    assert (asked.method, asked.path, asked.headers["authorization"]) == ("POST", "/v1/embeddings", f"Bearer {KEY}")
    assert asked.body == {
        "model": "text-embedding-3-small",
        "input": ["one", "two"],
        "encoding_format": "base64",
        "dimensions": 8,
    }


async def test_ollama_is_asked_as_it_documents(server: WireServer) -> None:
    embedder = ollama(server)
    await embedder.embed(["one"])
    await embedder.close()
    (asked,) = server.asked
    assert (asked.method, asked.path) == ("POST", "/api/embed")
    assert asked.body == {"model": "bge-m3", "input": ["one"], "truncate": True}
    assert "authorization" not in asked.headers


async def test_floats_and_base64_are_the_same_vector(server: WireServer) -> None:
    embedder = openai(server)
    (from_base64,) = await embedder.embed(["one"])
    server.otherwise = Embeddings(knows_base64=False).answer
    (from_floats,) = await embedder.embed(["one"])
    await embedder.close()
    assert list(from_base64) == pytest.approx(list(from_floats), abs=1e-6)
    true = vector_of("one", 24)
    assert list(from_floats) == pytest.approx([value / math.hypot(*true) for value in true], abs=1e-6)


async def test_vectors_that_come_out_of_order_are_put_in_order(server: WireServer) -> None:
    data = [{"index": index, "embedding": [1.0, float(index)]} for index in (2, 0, 1)]
    server.answers(json_answer({"data": data}))
    embedder = openai(server)
    vectors = await embedder.embed(["a", "b", "c"])
    await embedder.close()
    assert [round(vector[1] / vector[0]) for vector in vectors] == [0, 1, 2]


@both
async def test_many_texts_are_sent_in_batches_of_a_bounded_size(server: WireServer, make: Made) -> None:
    embedder = make(server)
    await embedder.embed([*(["short"] * (BATCH_TEXTS + 1)), *(["long " * 4000] * 40)])
    await embedder.close()
    sizes = [len(asked.body["input"]) for asked in server.asked]
    bytes_sent = [sum(len(text) for text in asked.body["input"]) for asked in server.asked]
    assert sum(sizes) == BATCH_TEXTS + 41
    assert max(sizes) <= BATCH_TEXTS
    assert max(bytes_sent) <= 256 * 1024
    assert max(len(text) for asked in server.asked for text in asked.body["input"]) == TEXT_BYTES_MAX


@both
async def test_each_purpose_has_its_prefix(server: WireServer, make: Made) -> None:
    embedder = make(server, Model("m", document_prefix="passage: ", query_prefix="query: "))
    await embedder.embed(["one"])
    await embedder.embed(["one"], purpose="query")
    await embedder.close()
    assert [asked.body["input"] for asked in server.asked] == [["passage: one"], ["query: one"]]


def test_the_fingerprint_names_the_space_and_no_secret() -> None:
    plain = OpenAIEmbedder(Model("m", 512), "https://API.example.com:8443/v1/", api_key=KEY)
    prefixed = OllamaEmbedder(Model("m", query_prefix="query: "), "http://127.0.0.1:11434")
    assert plain.fingerprint == "openai:api.example.com:8443/v1:m:512"
    assert prefixed.fingerprint == 'ollama:127.0.0.1:11434:m:own length:query="query: "'
    assert OllamaEmbedder(Model("m", 512), "http://h").fingerprint != OllamaEmbedder(Model("m"), "http://h").fingerprint


OPENAI_ERROR = b'{"error": {"message": "no \\u001b[31m' + KEY.encode() + b' here", "type": "x", "code": null}}'


@both
@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (Answer(status=500, content_type=JSON, chunks=(OPENAI_ERROR,)), EmbedderError, "HTTP status 500: no"),
        (Answer(status=429, content_type=JSON, chunks=(b'{"error":"slow down"}',)), EmbedderError, "slow down"),
        (Answer(status=401, content_type=JSON, chunks=(b'{"detail":"who?"}',)), EmbedderError, "who?"),
        (Answer(status=400, content_type=JSON, chunks=(b'{"error":"too long"}',)), TextRefused, "too long"),
        (Answer(status=413, content_type="text/html", chunks=(b"<html>",)), TextRefused, "gives no reason"),
        (Answer(status=302, chunks=()), EmbedderError, "HTTP status 302"),
        (Answer(content_type=JSON, chunks=(b'{"data":[], "embeddi',), then="cut"), EmbedderError, "cannot be reached"),
        (Answer(content_type=JSON, chunks=(b"[[[[",)), EmbedderError, "does not document"),
        (Answer(content_type="text/html", chunks=(b"<html>hello</html>",)), EmbedderError, "does not document"),
        (Answer(content_type=JSON, chunks=(b'{"data":1,"embeddings":1}',)), EmbedderError, "does not document"),
        (Answer(content_type=JSON, chunks=(b'{"data":[],"embeddings":[]}',)), EmbedderError, "0 vectors for 1"),
    ],
)
async def test_what_a_server_does_wrong_is_an_error_that_says_so(
    server: WireServer, make: Made, answer: Answer, kind: type[EmbedderError], said: str
) -> None:
    options = {"api_key": KEY} if make is openai else {}
    embedder = make(server, **options)
    server.answers(answer)
    with pytest.raises(EmbedderError) as caught:
        await embedder.embed(["one"])
    assert type(caught.value) is kind
    assert said in caught.value.message
    if make is openai:
        assert KEY not in caught.value.message
    assert "\x1b" not in caught.value.message
    assert len(await embedder.embed(["one"])) == 1, "the next request is answered"
    await embedder.close()


@pytest.mark.parametrize(
    "vector", [[math.nan, 1.0], [math.inf, 1.0], [0.0, 0.0], []], ids=["nan", "infinite", "zero", "empty"]
)
async def test_a_vector_without_direction_is_refused(server: WireServer, vector: list[float]) -> None:
    server.answers(json_answer({"data": [{"index": 0, "embedding": packed(vector)}]}))
    embedder = openai(server)
    with pytest.raises(EmbedderError, match="no direction"):
        await embedder.embed(["one"])
    await embedder.close()


@both
async def test_a_number_that_is_none_is_refused(server: WireServer, make: Made) -> None:
    body = b'{"data":[{"index":0,"embedding":[NaN,1]}],"embeddings":[[NaN,1]]}'
    server.answers(Answer(content_type=JSON, chunks=(body,)))
    embedder = make(server)
    with pytest.raises(EmbedderError, match="does not document"):
        await embedder.embed(["one"])
    await embedder.close()


@both
async def test_vectors_of_another_length_than_was_asked_for_are_refused(server: WireServer, make: Made) -> None:
    embedder = make(server, Model("m", 16))
    vector = [1.0] * 12
    server.answers(json_answer({"data": [{"index": 0, "embedding": vector}], "embeddings": [vector]}))
    with pytest.raises(EmbedderError, match="12 numbers instead of 16"):
        await embedder.embed(["one"])
    await embedder.close()


@both
async def test_vectors_of_different_lengths_are_refused(server: WireServer, make: Made) -> None:
    vectors = [[1.0], [1.0, 2.0]]
    data = [{"index": index, "embedding": vector} for index, vector in enumerate(vectors)]
    server.answers(json_answer({"data": data, "embeddings": vectors}))
    embedder = make(server)
    with pytest.raises(EmbedderError, match=r"different lengths: \[1, 2\]"):
        await embedder.embed(["one", "two"])
    await embedder.close()


@pytest.mark.parametrize("indices", [[0, 0], [1, 2], [5, 0]])
async def test_vectors_whose_numbers_fit_no_texts_are_refused(server: WireServer, indices: list[int]) -> None:
    server.answers(json_answer({"data": [{"index": index, "embedding": [1.0]} for index in indices]}))
    embedder = openai(server)
    with pytest.raises(EmbedderError, match="does not document"):
        await embedder.embed(["one", "two"])
    await embedder.close()


@both
async def test_a_server_that_says_nothing_is_given_up(server: WireServer, make: Made) -> None:
    server.answers(Answer(content_type=JSON, chunks=(b"{",), then="silence"))
    embedder = make(server, timeout_s=0.05)
    with pytest.raises(EmbedderError, match="did not answer within"):
        await embedder.embed(["one"])
    await embedder.close()


async def test_a_server_that_is_not_there_is_said_to_be_unreachable() -> None:
    async with WireServer() as server:
        url = server.url
    embedder = OllamaEmbedder(Model("m"), url)
    with pytest.raises(EmbedderError, match="cannot be reached") as caught:
        await embedder.embed(["one"])
    assert "running" in caught.value.hint
    await embedder.close()


async def test_how_long_to_wait_is_taken_from_the_answer(server: WireServer) -> None:
    server.answers(Answer(status=429, content_type=JSON, headers={"retry-after": "7"}, chunks=(b"{}",)))
    embedder = openai(server)
    with pytest.raises(EmbedderError) as caught:
        await embedder.embed(["one"])
    await embedder.close()
    assert caught.value.facts == {"status": 429, "retry_after_s": 7.0}


@pytest.mark.parametrize("url", ["localhost:11434", "ftp://host", "", "http://"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="not an HTTP address"):
        OllamaEmbedder(Model("m"), url)


def test_a_key_that_is_none_is_refused_and_not_shown() -> None:
    with pytest.raises(ConfigurationError) as caught:
        OpenAIEmbedder(Model("m"), api_key="sk-\nsecret")
    assert "secret" not in str(caught.value)
