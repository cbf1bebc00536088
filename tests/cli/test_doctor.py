"""The doctor sees what is not well and says what to do."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Ostler


def checks(ostler: Ostler) -> dict[str, dict[str, str]]:
    return {check["name"]: check for check in json.loads(ostler("doctor", "--json").stdout)}


def test_a_healthy_installation_is_well(ostler: Ostler) -> None:
    assert "there is none at" in checks(ostler)["store"]["found"]
    ostler("worker", "--until-idle")
    result = ostler("doctor")
    assert result.exit_code == 0, result.stdout
    found = checks(ostler)
    assert {check["verdict"] for check in found.values()} == {"ok"}
    assert "journal wal, synchronous FULL" in found["store"]["found"]
    assert "network" in found["sandbox"]["found"]
    assert found["model"]["found"] == "strategy:clerk (strategy): named in ostler.toml"
    assert "clerk" in found["agents"]["found"]


def test_a_broken_agent_is_found_and_exits_with_1(ostler: Ostler, project: Path) -> None:
    (project / "agents/bad.toml").write_text("nonsense = 1")
    result = ostler("doctor")
    assert result.exit_code == 1
    assert "Needed and broken: " in result.stderr
    assert "bad.toml" in checks(ostler)["agents"]["found"]


def test_a_malformed_project_file_does_not_keep_the_rest_from_being_looked_at(ostler: Ostler, project: Path) -> None:
    (project / "ostler.toml").write_text("nonsense = 1\nsandbox = 'docker'")
    assert ostler("doctor").exit_code == 1
    found = checks(ostler)
    assert "nonsense: is unknown" in found["project"]["found"]
    assert "sandbox: " in found["project"]["found"]
    assert found["store"]["verdict"] == "ok"


def test_tools_that_are_not_there_are_told_once(ostler: Ostler, project: Path) -> None:
    (project / "tools.py").unlink()
    shown = ostler("doctor").stdout
    assert shown.count("tools.py has 1 problem") == 1
    assert "does not exist" in shown
    assert checks(ostler)["agents"]["found"] == "not looked at"


def test_what_tools_print_while_they_are_read_does_not_get_among_the_checks(ostler: Ostler, project: Path) -> None:
    tools = project / "tools.py"
    tools.write_text(tools.read_text() + "\nprint('hello from a tool')\n")
    result = ostler("doctor", "--json")
    assert json.loads(result.stdout)
    assert "hello from a tool" in result.stderr


def test_a_broken_store_is_found_and_left_alone(ostler: Ostler, project: Path) -> None:
    (project / ".ostler").mkdir()
    file = project / ".ostler/ostler.db"
    file.write_text("no store " * 50)
    assert ostler("doctor").exit_code == 1
    check = checks(ostler)["store"]
    assert check["verdict"] == "bad"
    assert "is not an Ostler store" in check["found"]
    assert file.read_text() == "no store " * 50


def test_a_missing_sandbox_is_found(ostler: Ostler, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(project))
    assert ostler("doctor").exit_code == 1
    check = checks(ostler)["sandbox"]
    assert check["verdict"] == "bad"
    assert "apt-get install bubblewrap" in check["todo"]
    (project / "ostler.toml").write_text('sandbox = "none"\nmodel = "strategy:clerk"\n')
    assert checks(ostler)["sandbox"]["verdict"] == "warn"


def test_a_model_that_cannot_be_reached_is_no_reason_to_fail(ostler: Ostler, project: Path) -> None:
    (project / "ostler.toml").write_text('model = "anthropic:claude"\ntools = ["tools.py"]\n')
    check = checks(ostler)["model"]
    assert (check["verdict"], check["todo"]) == ("warn", "Set ANTHROPIC_API_KEY.")


def test_the_workers_of_a_store_in_use_are_shown(ostler: Ostler) -> None:
    ostler("worker", "--until-idle")
    found = checks(ostler)
    assert found["workers alive"]["found"].startswith("none")
    assert "workers lost" not in found
    assert found["queue"]["verdict"] == "ok"


def test_servers_of_models_are_told_with_the_variables_of_their_keys(
    ostler: Ostler, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = project / "ostler.toml"
    tables = """
[providers.corp]
base_url = "https://llm.corp.example/v1"
key_env = "CORP_LLM_KEY"

[providers.lab]
base_url = "http://127.0.0.1:8000/v1"
dialect = "openai-responses"

[breakers.providers.copr]
failures = 2

[breakers.providers."*"]
failures = 3
"""
    file.write_text(file.read_text() + tables)
    found = checks(ostler)
    assert (found["provider corp"]["verdict"], found["provider corp"]["todo"]) == ("warn", "Set CORP_LLM_KEY.")
    assert found["provider lab"]["found"] == "http://127.0.0.1:8000/v1 (openai-responses); no key is sent"
    slip = found["provider copr"]
    assert slip["verdict"] == "warn"
    assert "[breakers.providers.copr] is for nobody" in slip["found"]
    assert slip["todo"] == "Did you mean 'corp'?"
    assert "provider *" not in found
    monkeypatch.setenv("CORP_LLM_KEY", "sk-corp-0123456789")
    shown = ostler("doctor").stdout
    assert checks(ostler)["provider corp"]["verdict"] == "ok"
    assert "sk-corp" not in shown


def test_an_embedder_is_tried_and_one_that_fails_is_no_reason_to_fail(ostler: Ostler, project: Path) -> None:
    assert "embedder" not in checks(ostler)
    file = project / "ostler.toml"
    text = file.read_text()
    file.write_text(f'{text}\n[memory]\nembedder = "hashing"\n')
    found = checks(ostler)["embedder"]
    assert (found["verdict"], found["found"]) == ("ok", "hashing:words+4-grams:1:1024, 1024 numbers, lexical")
    file.write_text(f'{text}\n[memory]\nembedder = "ollama:bge-m3"\n')
    found = checks(ostler)["embedder"]
    assert found["verdict"] == "warn"
    assert "cannot be reached" in found["found"]
    assert "running" in found["todo"]
