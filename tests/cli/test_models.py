"""`ostler models` and a session over several models, as they are typed."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from ostler.app import plugins
from ostler.domain.model import ModelRequest, Reply
from ostler.kernel.errors import ProviderOverloaded
from ostler.testing.wire import JSON, Answer, WireServer
from tests.app.test_cards import NEWER
from tests.cli.conftest import Ostler

MODELS = """
[models."anthropic:claude-sonnet-4-5"]
quality = 0.8
abilities = ["tools", "images"]
source = "our own tests"
date = "2026-10-01"

[strategies.house]
models = ["strategy:busy", "strategy:clerk"]
"""


def busy(request: ModelRequest) -> Reply:
    """A model that never has time."""
    raise ProviderOverloaded("too busy")


@pytest.fixture(autouse=True)
def more(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(plugins.STRATEGIES, "busy", "tests.cli.test_models:busy")
    file = project / "ostler.toml"
    file.write_text(file.read_text() + MODELS)


def test_a_model_is_shown_with_who_says_what_of_it(ostler: Ostler) -> None:
    shown = ostler("models", "show", "anthropic:claude-sonnet-4-5").stdout
    assert (
        "input $3, reply $15, cache read $0.3, cache write $3.75; long requests cost more (from 200,000 tokens)"
        in shown
    )
    assert "quality        0.8  (our own tests 2026-10-01)" in shown
    assert "price per 1M" in shown
    assert "region         not known" in shown
    found = json.loads(ostler("models", "show", "anthropic:claude-sonnet-4-5", "--json").stdout)
    assert (found["window_tokens"], found["abilities"]) == (200_000, ["tools", "images"])
    assert found["sources"]["abilities"] == "our own tests 2026-10-01"


def test_of_a_model_that_nobody_knows_it_is_said_where_to_say_it(ostler: Ostler) -> None:
    slip = ostler("models", "show", "anthropic:claude-sonet-4-5")
    assert slip.exit_code == 0
    assert "Did you mean 'anthropic:claude-sonnet-4-5'?" in slip.stderr
    unknown = ostler("models", "show", "ollama:mine")
    assert """Its price and window can be said under [models."ollama:mine"] in ostler.toml.""" in unknown.stderr
    assert ostler("models", "show", "ollama:mine", "--json").stderr == ""


def test_models_are_listed_your_own_first_all_or_those_of_a_provider(ostler: Ostler) -> None:
    names = [one["name"] for one in json.loads(ostler("models", "list", "--json").stdout)]
    assert names[:2] == ["anthropic:claude-sonnet-4-5", "strategy:clerk"]
    assert len(set(names)) == len(names) > 100
    groq = [one["name"] for one in json.loads(ostler("models", "list", "groq", "--json").stdout)]
    assert {name.partition(":")[0] for name in groq} == {"groq"}
    assert "in USD for a million tokens" in ostler("models", "list", "anthropic").stderr
    table = ostler("models", "list", "anthropic").stdout
    assert "anthropic:claude-sonnet-4-5" in table
    assert "strategy:clerk" not in table
    nobody = ostler("models", "list", "nobody")
    assert nobody.exit_code != 0
    assert "Nothing is known of models of 'nobody'" in nobody.stderr


def test_a_model_that_is_none_is_told_and_so_is_a_server_that_is_not_there(ostler: Ostler) -> None:
    assert "does not name a model" in ostler("models", "show", "claude").stderr
    offline = ostler("models", "refresh", "--from", "http://127.0.0.1:9/prices.json")
    assert offline.exit_code != 0
    assert "cannot be fetched from http://127.0.0.1:9/prices.json" in offline.stderr
    assert "Traceback" not in offline.stderr + offline.stdout


async def test_newer_prices_are_fetched_from_a_server_into_the_project(project: Path) -> None:
    async with WireServer() as server:
        server.answers(Answer((msgspec.json.encode(NEWER),), content_type=JSON))
        command = [sys.executable, "-m", "ostler", "models"]
        refresh = await _run([*command, "refresh", "--from", f"{server.url}/p.json", "--json"], project)
    assert json.loads(refresh)["source"].endswith("/p.json")
    assert (project / ".ostler" / "prices.json").is_file()
    shown = json.loads(await _run([*command, "show", "anthropic:claude-sonnet-4-5", "--json"], project))
    assert (shown["price"]["input_microusd"], shown["window_tokens"]) == (1_000_000, 500_000)


async def _run(command: list[str], folder: Path) -> str:
    process = await asyncio.create_subprocess_exec(*command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


def test_a_session_over_several_models_shows_who_was_asked_and_why(ostler: Ostler) -> None:
    done = ostler("run", "clerk", "chat", "--model", "route:house")
    assert done.exit_code == 0, done.output
    assert "turn 1, of strategy:busy: the first that can be asked" in done.stderr
    assert "1 strategy:busy → strategy:clerk, attempt 2: provider_overloaded: too busy" in done.stderr
    (session,) = json.loads(ostler("ps", "--all", "--json").stdout)
    assert session["model"] == "strategy:clerk"
    why = ostler("why", session["id"], "3").stdout
    assert "asks strategy:clerk: the first that can be asked" in why
    assert "not strategy:busy: it has failed in this call" in why
    used = json.loads(ostler("usage", "--by", "model", "--json").stdout)
    assert "strategy:clerk" in json.dumps(used)
    assert ostler("replay", session["id"]).exit_code == 0


def test_an_unknown_strategy_of_the_project_is_told_with_those_that_there_are(ostler: Ostler) -> None:
    done = ostler("run", "clerk", "chat", "--model", "route:hous")
    assert done.exit_code != 0
    assert "Did you mean 'house'?" in done.stderr
