"""Memory in `ostler.toml`: what can be said, what is a mistake, and which embedder it makes."""

from pathlib import Path

import pytest

from ostler.app.embedders import embedder_of
from ostler.app.memory_settings import MemoryTable
from ostler.app.settings import PROJECT_FILE, Settings, resolve
from ostler.domain.memory.settings import Consolidating, Keeping
from ostler.kernel.errors import ConfigurationError, DefinitionInvalid
from ostler.testing.wire import JSON, Answer, WireServer
from ostler.testing.wire_embeddings import Embeddings

SERVER = """
[providers.house]
base_url = "http://localhost:8080/v1"
key_env = "HOUSE_KEY"
[providers.claude-like]
base_url = "http://localhost:8081"
dialect = "anthropic"
"""


def settings(folder: Path, text: str, **environ: str) -> Settings:
    (folder / PROJECT_FILE).write_text(text)
    return resolve(environ, folder)


def test_without_a_table_nothing_makes_vectors_and_all_is_as_documented(tmp_path: Path) -> None:
    found = settings(tmp_path, "")
    assert found.memory == MemoryTable()
    assert found.memory.keeping == Keeping()
    assert found.memory.consolidation.rules == Consolidating()
    assert embedder_of(found) is None


def test_everything_can_be_said(tmp_path: Path) -> None:
    found = settings(
        tmp_path,
        """
        [memory]
        embedder = "ollama:bge-m3"
        dimensions = 256
        document_prefix = "passage: "
        query_prefix = "query: "
        half_life_days = 7
        episodes_max = 100
        memories_max = 200
        bytes_max = 300
        [memory.consolidation]
        after = 0
        alike = 0.9
        near = 0.99
        sessions_min = 5
        strength_min = 0.1
        """,
        OLLAMA_HOST="box:11434",
    )
    assert found.memory.keeping == Keeping(7, 100, 200, 300)
    assert found.memory.consolidation.rules == Consolidating(0.9, 0.99, 5, 0.1)
    assert found.memory.consolidation.after == 0
    embedder = embedder_of(found)
    assert embedder is not None
    assert embedder.fingerprint == 'ollama:box:11434:bge-m3:256:document="passage: ":query="query: "'


@pytest.mark.parametrize(
    ("named", "fingerprint"),
    [
        ("hashing", "hashing:words+4-grams:1:1024"),
        ("ollama:bge-m3", "ollama:127.0.0.1:11434:bge-m3:own length"),
        ("openai:text-embedding-3-small", "openai:api.openai.com/v1:text-embedding-3-small:own length"),
        ("house:bge:small", "openai:localhost:8080/v1:bge:small:own length"),
    ],
)
def test_an_embedder_is_named_as_models_are(tmp_path: Path, named: str, fingerprint: str) -> None:
    embedder = embedder_of(settings(tmp_path, f'memory.embedder = "{named}"\n{SERVER}'))
    assert embedder is not None
    assert embedder.fingerprint == fingerprint


@pytest.mark.parametrize(
    ("text", "path", "said"),
    [
        ('embedder = "olama:bge-m3"', "memory.embedder", "did you mean 'ollama'?"),
        ('embedder = "anthropic:x"', "memory.embedder", "no provider 'anthropic' makes vectors"),
        ('embedder = "claude-like:x"', "memory.embedder", "speaks anthropic, which has no vectors"),
        ('embedder = "bge-m3"', "memory.embedder", "none, hashing or PROVIDER:MODEL"),
        ('embedder = "ollama:"', "memory.embedder", "none, hashing or PROVIDER:MODEL"),
        ("dimensions = 256", "memory.dimensions", "says nothing of the embedder 'none'"),
        ('embedder = "hashing"\nquery_prefix = "q"', "memory.query_prefix", "says nothing"),
        ("half_life_days = 0", "memory.half_life_days", ""),
        ("episodes_max = 0", "memory.episodes_max", ""),
        ("half_life_day = 3", "memory.half_life_day", "did you mean 'half_life_days'?"),
        ("consolidation.alike = 1.5", "memory.consolidation.alike", ""),
        ("consolidation.sessions_min = 1", "memory.consolidation.sessions_min", ""),
        ("consolidation.after = -1", "memory.consolidation.after", ""),
    ],
)
def test_a_mistake_is_told_with_its_place(tmp_path: Path, text: str, path: str, said: str) -> None:
    with pytest.raises(DefinitionInvalid) as caught:
        settings(tmp_path, f"[memory]\n{text}\n{SERVER}")
    ((where, what),) = caught.value.problems
    assert (where, said in what) == (path, True)


def test_an_address_with_a_secret_in_it_is_refused(tmp_path: Path) -> None:
    found = settings(tmp_path, 'memory.embedder = "ollama:x"', OLLAMA_HOST="http://me:pass@box")
    with pytest.raises(ConfigurationError, match="more than an address") as caught:
        embedder_of(found)
    assert "pass" not in caught.value.message


async def test_a_key_goes_to_the_server_that_it_is_for(tmp_path: Path) -> None:
    async with WireServer() as server:
        server.otherwise = Embeddings().answer
        text = SERVER.replace("http://localhost:8080", server.url)
        keys = {"HOUSE_KEY": "sk-house", "OPENAI_API_KEY": "sk-openai"}
        embedder = embedder_of(settings(tmp_path, f'memory.embedder = "house:bge"\n{text}', **keys))
        assert embedder is not None
        await embedder.embed(["a"])
        await embedder.close()
        assert server.asked[0].headers["authorization"] == "Bearer sk-house"


async def test_a_key_that_is_missing_is_named_when_the_server_asks_for_it(tmp_path: Path) -> None:
    async with WireServer() as server:
        server.answers(Answer(status=401, content_type=JSON, chunks=(b'{"error":{"message":"no key"}}',)))
        text = SERVER.replace("http://localhost:8080", server.url)
        embedder = embedder_of(settings(tmp_path, f'memory.embedder = "house:bge"\n{text}'))
        assert embedder is not None
        with pytest.raises(Exception, match="no key") as caught:
            await embedder.embed(["a"])
        await embedder.close()
        assert getattr(caught.value, "hint", "") == "It wants a key: set HOUSE_KEY."
