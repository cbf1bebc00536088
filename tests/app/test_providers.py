"""Servers of models: their names and tables, and which key is told to which of them."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from ostler.app.models import Models
from ostler.app.providers import BUILT_IN, Keys, ProviderTable, ProviderTarget, make, parse, problems_in_providers
from ostler.app.settings import PROJECT_FILE, Settings, resolve
from ostler.domain.model import ModelRef, ModelRequest, ModelSettings, Reply, UserMessage
from ostler.kernel.errors import ConfigurationError, DefinitionInvalid
from ostler.testing.wire import WireServer

PROJECT = """
[providers.corp]
base_url = "https://llm.corp.example/v1"
key_env = "CORP_LLM_KEY"
region = "eu"

[providers.claude-proxy]
base_url = "http://127.0.0.1:8080"
dialect = "anthropic"
"""
KEYS = Keys("sk-anthropic", None, "sk-openai", None, google_api_key="AI-google")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / PROJECT_FILE).write_text(PROJECT)
    return tmp_path


def asked(ref: ModelRef) -> ModelRequest:
    return ModelRequest(ref, "", [UserMessage("Hi.")], (), ModelSettings(), "ses_1/1")


def test_a_server_of_ones_own_is_named_in_the_project_and_its_key_in_the_environment(project: Path) -> None:
    settings = resolve({"CORP_LLM_KEY": "sk-corp-0123456789", "HOME": "/"}, project)
    assert settings.providers["corp"].key == "sk-corp-0123456789"
    assert settings.providers["claude-proxy"].key is None
    assert parse("corp:llama-70b", settings.keys, settings.providers) == ModelRef(
        "live", "corp", "llama-70b", base_url="https://llm.corp.example/v1", dialect="openai-chat"
    )
    assert "sk-corp" not in repr(settings)


@pytest.mark.parametrize(
    ("name", "table", "place", "says"),
    [
        ("openai", {}, "providers.openai", "knows by itself"),
        ("scripted", {}, "providers.scripted", "knows by itself"),
        ("Corp", {}, "providers.Corp", "small letters"),
        ("a:b", {}, "providers.a:b", "small letters"),
        ("corp", {"base_url": "llm.corp.example"}, "providers.corp.base_url", "no HTTP address"),
        ("corp", {"base_url": "ftp://llm.corp.example"}, "providers.corp.base_url", "no HTTP address"),
        ("corp", {"base_url": "https://me:pw@llm.corp.example"}, "providers.corp.base_url", "key_env"),
        ("corp", {"base_url": "https://llm.corp.example/v1?key=1"}, "providers.corp.base_url", "key_env"),
        ("corp", {"base_url": "https://[::1"}, "providers.corp.base_url", "no HTTP address"),
        ("corp", {"base_url": "https://llm.corp.example:99999/v1"}, "providers.corp.base_url", "no HTTP address"),
        ("corp", {"key_env": "sk-corp-0123"}, "providers.corp.key_env", "environment variable"),
    ],
)
def test_what_is_wrong_with_a_table_is_told_with_its_place(name: str, table: Any, place: str, says: str) -> None:
    made = msgspec.convert({"base_url": "https://llm.corp.example/v1"} | table, ProviderTable)
    ((where, what),) = problems_in_providers({name: made})
    assert where == place
    assert says in what


def test_a_table_that_is_wrong_keeps_the_project_from_being_read(project: Path) -> None:
    (project / PROJECT_FILE).write_text('[providers.corp]\nbase_url = "nowhere"\ndialect = "morse"\n')
    with pytest.raises(DefinitionInvalid, match=r"providers\.corp\.dialect"):
        resolve({"HOME": "/"}, project)


@pytest.mark.parametrize(
    ("model", "keys"),
    [
        ("openai:x", Keys(openai_base_url="http://me:hunter22@127.0.0.1:9/v1")),
        ("openai-chat:x", Keys(openai_base_url="http://127.0.0.1:9/v1?key=hunter22")),
        ("openai-responses:x", Keys(openai_base_url="http://hunter22@127.0.0.1:9/v1")),
        ("ollama:x", Keys(ollama_host="http://me:hunter22@127.0.0.1:9")),
    ],
)
def test_an_address_with_a_credential_in_it_does_not_get_into_a_log(model: str, keys: Keys) -> None:
    with pytest.raises(ConfigurationError, match=r"OPENAI_BASE_URL|OLLAMA_HOST") as refused:
        parse(model, keys)
    assert "hunter22" not in str(refused.value)
    assert "key_env" in refused.value.hint


def test_a_provider_that_nobody_knows_is_refused_with_those_that_there_are() -> None:
    targets = {"corp": ProviderTarget(ProviderTable("https://llm.corp.example/v1"))}
    with pytest.raises(ConfigurationError) as refused:
        parse("copr:x", Keys(), targets)
    assert "Did you mean 'corp'?" in refused.value.hint
    assert all(name in refused.value.hint for name in (*BUILT_IN, "corp", "[providers.NAME]"))


async def test_every_key_goes_to_its_own_server_and_to_no_other() -> None:
    async with WireServer() as server:
        corp = ProviderTarget(ProviderTable(f"{server.url}/corp/v1"), "sk-corp")
        claude = ProviderTarget(ProviderTable(f"{server.url}/claude", dialect="anthropic"), "sk-claude")
        plain = ProviderTarget(ProviderTable(f"{server.url}/plain/v1", dialect="openai-responses"))
        gemini = ProviderTarget(ProviderTable(f"{server.url}/gemini", dialect="google"), "AI-gemini")
        targets = {"corp": corp, "claude": claude, "plain": plain, "gemini": gemini}
        keys = msgspec.structs.replace(KEYS, openai_base_url=f"{server.url}/mine/v1", ollama_host=server.url)
        names = ["corp:m", "claude:m", "plain:m", "gemini:m", "openai:m", "ollama:m"]
        server.answers(*[Reply("hello")] * len(names))
        for name in names:
            ref = parse(name, keys, targets)
            provider = make(ref, keys, targets)
            assert (await provider.complete(asked(ref), lambda text: None)).text == "hello"
            await provider.close()
    told = [
        (one.path.split("?")[0], {value for value in one.headers.values() if "sk-" in value or "AI-" in value})
        for one in server.asked
    ]
    assert told == [
        ("/corp/v1/chat/completions", {"Bearer sk-corp"}),
        ("/claude/v1/messages", {"sk-claude"}),
        ("/plain/v1/responses", set()),
        ("/gemini/v1/models/m:streamGenerateContent", {"AI-gemini"}),
        ("/mine/v1/chat/completions", {"Bearer sk-openai"}),
        ("/v1/chat/completions", set()),
    ]


async def test_the_key_for_another_server_is_not_told_to_one_that_a_log_names() -> None:
    async with WireServer() as server:
        server.answers(Reply("hello"))
        ref = ModelRef("live", "openai", "m", base_url=f"{server.url}/v1")
        provider = make(ref, KEYS, {})
        await provider.complete(asked(ref), lambda text: None)
        await provider.close()
    assert "sk-openai" not in str(server.asked[0].headers)


@pytest.mark.parametrize("url", [None, "https://api.openai.com/v1"])
def test_openai_itself_is_not_told_the_key_for_a_gateway(url: str | None) -> None:
    keys = Keys(openai_api_key="sk-gateway", openai_base_url="https://gateway.example/v1")
    with pytest.raises(ConfigurationError, match=r"for https://gateway\.example/v1") as refused:
        make(ModelRef("live", "openai", "gpt-x", base_url=url), keys, {})
    assert "OPENAI_BASE_URL" in refused.value.hint


@pytest.mark.parametrize(
    ("ref", "says"),
    [
        (ModelRef("live", "corp", "m", base_url="https://llm.corp.example/v1", dialect="openai-chat"), "CORP_LLM_KEY"),
        (ModelRef("live", "corp", "m", base_url="https://old.example/v1", dialect="openai-chat"), "old address"),
        (ModelRef("live", "gone", "m", base_url="https://gone.example", dialect="anthropic"), "[providers.gone]"),
        (ModelRef("live", "google", "m"), "GEMINI_API_KEY"),
    ],
    ids=["no key", "another address", "no table", "google"],
)
def test_a_server_that_cannot_be_reached_from_here_is_refused_with_what_is_missing(ref: ModelRef, says: str) -> None:
    targets = {"corp": ProviderTarget(ProviderTable("https://llm.corp.example/v1", key_env="CORP_LLM_KEY"))}
    with pytest.raises(ConfigurationError) as refused:
        make(ref, Keys(), targets)
    assert says in refused.value.hint


async def test_sessions_of_old_that_name_openai_and_no_dialect_still_speak_chat_completions() -> None:
    async with WireServer() as server:
        server.answers(Reply("hello"))
        keys = Keys(openai_api_key="sk-openai", openai_base_url=f"{server.url}/v1")
        models = Models(Settings(store="memory:", folder=Path(), keys=keys))
        ref = msgspec.json.decode(
            f'{{"kind":"live","provider":"openai","name":"m","base_url":"{server.url}/v1"}}', type=ModelRef
        )
        await models.provider(ref).complete(asked(ref), lambda text: None)
        await models.close()
    assert server.asked[0].path == "/v1/chat/completions"


@pytest.mark.parametrize(
    ("environment", "key", "url"),
    [
        ({"GEMINI_API_KEY": "AI-1"}, "AI-1", None),
        ({"GOOGLE_API_KEY": "AI-2", "GEMINI_API_KEY": "AI-1"}, "AI-2", None),
        ({"GEMINI_API_KEY": "", "GOOGLE_GEMINI_BASE_URL": "http://localhost:1"}, None, "http://localhost:1"),
    ],
)
def test_googles_key_has_two_names_as_in_its_own_sdk(
    environment: dict[str, str], key: str | None, url: str | None, tmp_path: Path
) -> None:
    keys = resolve(environment | {"HOME": "/"}, tmp_path).keys
    assert (keys.google_api_key, keys.google_base_url) == (key, url)
