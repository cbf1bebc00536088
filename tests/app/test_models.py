"""Which model drives a session: the first that was named or that the environment offers, and why."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ostler.app.models import ANTHROPIC_DEFAULT, GOOGLE_DEFAULT, OPENAI_DEFAULT, Models
from ostler.app.providers import Keys, parse
from ostler.app.settings import Settings
from ostler.domain.model import ModelRef, ModelRequest, ModelSettings, Price, Reply, UserMessage
from ostler.kernel.errors import ConfigurationError, DefinitionInvalid
from ostler.testing import Scripted
from ostler.testing.wire import JSON, Answer, WireServer

NOWHERE = "http://127.0.0.1:9"
"""The port of the discard service, on which nothing listens."""
OLLAMA = "http://127.0.0.1:11434/v1"
NO_KEYS = Keys(ollama_host=NOWHERE)


def models(keys: Keys = NO_KEYS, **more: Any) -> Models:
    return Models(Settings(store="memory:", folder=Path(), keys=keys, **more))


def offering(*names: str) -> Answer:
    listed = ",".join(f'{{"id":"{name}"}}' for name in names)
    return Answer((f'{{"object":"list","data":[{listed}]}}'.encode(),), content_type=JSON)


ALL_KEYS = Keys("sk-a", None, "sk-o", NOWHERE, NOWHERE)


@pytest.mark.parametrize(
    ("named", "own", "project", "keys", "expected", "because"),
    [
        ("ollama:x", "ollama:y", "ollama:z", ALL_KEYS, "ollama:x (live)", "named by the caller"),
        (None, "ollama:y", "ollama:z", ALL_KEYS, "ollama:y (live)", "named by the agent coder"),
        (None, None, "ollama:z", ALL_KEYS, "ollama:z (live)", "named in ostler.toml"),
        (None, None, None, ALL_KEYS, f"anthropic:{ANTHROPIC_DEFAULT} (live)", "ANTHROPIC_API_KEY is set"),
        (None, None, None, Keys(openai_api_key="sk-o"), f"openai:{OPENAI_DEFAULT} (live)", "OPENAI_API_KEY is set"),
        (None, None, None, Keys(google_api_key="AI"), f"google:{GOOGLE_DEFAULT} (live)", "GEMINI_API_KEY is set"),
        (None, None, None, NO_KEYS, "strategy:coder (strategy)", "no model is configured; built-in code plays it"),
    ],
)
async def test_the_first_that_is_there_wins(
    named: str | None, own: str | None, project: str | None, keys: Keys, expected: str, because: str
) -> None:
    choice = await models(keys, model=project).choose(named, "coder", own)
    assert (str(choice.model), choice.because) == (expected, because)


async def test_a_base_url_is_asked_for_its_models_with_its_key() -> None:
    async with WireServer() as server:
        server.answers(offering("llama-70b", "llama-8b"))
        url = f"{server.url}/v1"
        chooser = models(Keys(openai_api_key="sk-o", openai_base_url=url, ollama_host=NOWHERE))
        choice = await chooser.choose(None, "coder")
        assert choice.model == ModelRef("live", "openai", "llama-70b", base_url=url, dialect="openai-chat")
        assert choice.because == "OPENAI_BASE_URL is set"
        assert (server.asked[0].path, server.asked[0].headers["authorization"]) == ("/v1/models", "Bearer sk-o")
        await chooser.close()


async def test_ollama_is_found_where_it_listens() -> None:
    async with WireServer() as server:
        server.answers(offering("qwen3:8b"))
        chooser = models(Keys(ollama_host=server.url))
        choice = await chooser.choose(None, "anybody")
        assert choice.model == ModelRef(
            "live", "ollama", "qwen3:8b", base_url=f"{server.url}/v1", dialect="openai-chat"
        )
        assert choice.because == f"Ollama answers at {server.url}"
        await chooser.close()


@pytest.mark.parametrize(
    "answer",
    [offering(), Answer((b"<html>",), content_type="text/html"), Answer((b"no",), status=500, content_type=JSON)],
    ids=["no models", "another server", "a broken server"],
)
async def test_an_ollama_that_has_nothing_to_offer_is_passed_over(answer: Answer) -> None:
    async with WireServer() as server:
        server.answers(answer)
        chooser = models(Keys(ollama_host=server.url))
        assert (await chooser.choose(None, "coder")).model == ModelRef("strategy", "strategy", "coder")
        await chooser.close()


async def test_a_key_is_told_to_no_server_but_the_one_it_is_for() -> None:
    async with WireServer() as server:
        server.answers(Reply("hello"))
        chooser = models(Keys(openai_api_key="sk-o", ollama_host=server.url))
        ref = parse("ollama:qwen3", Keys(ollama_host=server.url))
        request = ModelRequest(ref, "", [UserMessage("Hi.")], (), ModelSettings(), "ses_1/1")
        assert (await chooser.provider(ref).complete(request, lambda text: None)).text == "hello"
        assert "sk-o" not in str(server.asked[0].headers)
        await chooser.close()


async def test_an_agent_that_no_code_can_play_needs_a_model_and_is_told_how_to_get_one() -> None:
    with pytest.raises(ConfigurationError, match="no model for the agent 'poet'") as missing:
        await models().choose(None, "poet")
    assert "ANTHROPIC_API_KEY" in missing.value.hint


async def test_the_price_of_a_model_comes_from_the_project() -> None:
    price, keys = Price(3, 15), Keys(openai_api_key="sk-o")
    choice = await models(keys, prices={"openai:gpt-x": price}).choose("openai:gpt-x", "coder")
    assert choice.model.price == price
    assert (await models(keys, prices={"openai:gpt-x": price}).choose("openai:gpt-y", "coder")).model.price is None


@pytest.mark.parametrize(
    ("name", "says"),
    [("strategy:codr", "Did you mean 'coder'?"), ("anthropic:x", "ANTHROPIC_API_KEY"), ("openai:x", "OPENAI_API_KEY")],
)
async def test_a_model_that_cannot_be_reached_from_here_is_refused_before_there_is_a_session(
    name: str, says: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        await models().choose(name, "coder")
    assert says in refused.value.hint


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("anthropic:claude-x", ModelRef("live", "anthropic", "claude-x")),
        ("openai:gpt-x", ModelRef("live", "openai", "gpt-x", dialect="openai-responses")),
        ("openai-chat:gpt-x", ModelRef("live", "openai", "gpt-x", dialect="openai-chat")),
        ("openai-responses:gpt-x", ModelRef("live", "openai", "gpt-x", dialect="openai-responses")),
        ("google:gemini-x", ModelRef("live", "google", "gemini-x")),
        ("ollama:qwen3:8b", ModelRef("live", "ollama", "qwen3:8b", base_url=OLLAMA, dialect="openai-chat")),
        ("strategy:coder", ModelRef("strategy", "strategy", "coder")),
    ],
)
def test_a_model_is_named_by_its_provider_and_its_name(name: str, expected: ModelRef) -> None:
    assert parse(name, Keys()) == expected


@pytest.mark.parametrize("name", ["gpt-x", "openai:", ":gpt-x", "mistral:large", ""])
def test_what_names_no_model_is_refused_with_what_would(name: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        parse(name, Keys())
    assert "PROVIDER:NAME" in refused.value.hint or "anthropic, google, ollama, openai" in refused.value.hint


@pytest.mark.parametrize(
    ("ref", "says"),
    [
        (ModelRef("live", "anthropic", "x"), "ANTHROPIC_API_KEY"),
        (ModelRef("live", "openai", "x"), "OPENAI_API_KEY"),
        (ModelRef("scripted", "scripted", "x"), "needs that object again"),
        (ModelRef("live", "mistral", "x"), "needs that object again"),
    ],
)
def test_a_model_that_cannot_be_reached_from_here_is_refused_with_what_is_missing(ref: ModelRef, says: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        models().provider(ref)
    assert says in refused.value.hint


async def test_a_model_object_answers_for_itself_and_two_do_not_share_a_name() -> None:
    chooser, script = models(), Scripted("hello", name="one")
    chooser.add(script.ref, script)
    chooser.add(script.ref, script)
    assert chooser.provider(script.ref) is script
    with pytest.raises(DefinitionInvalid, match="more than one model object"):
        chooser.add(script.ref, Scripted("other", name="one"))


async def test_providers_are_made_once_for_each_address_and_closed_at_the_end() -> None:
    chooser = models(Keys(openai_api_key="sk-o"))
    first = chooser.provider(ModelRef("live", "openai", "a"))
    assert chooser.provider(ModelRef("live", "openai", "b")) is first
    assert chooser.provider(ModelRef("live", "openai", "a", base_url=NOWHERE)) is not first
    closed: list[str] = []

    class Closing(Scripted):
        async def close(self) -> None:
            closed.append("closed")

    own: Callable[..., Scripted] = Closing
    script = own("x", name="closing")
    chooser.add(script.ref, script)
    await chooser.close()
    assert closed == ["closed"]
