"""Circuit breakers by hand: what it says, who may, and where open ones are seen."""

import json
from typing import Any

import pytest

from ostler.cli.exits import Exit
from tests.cli.conftest import Ostler


@pytest.fixture
def people(ostler: Ostler) -> None:
    """Somebody who governs, somebody who does not, and somebody of another tenant who does."""
    for name, scope, acting in (("ada", "govern", "local"), ("eve", "crm.*", "local"), ("kim", "govern", "acme/local")):
        assert ostler("principal", "add", name, "--scope", scope, "--as", acting).exit_code == 0


def listed(ostler: Ostler, *options: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(ostler("breaker", "list", "--json", *options).stdout)
    return found


@pytest.mark.usefixtures("people")
def test_a_breaker_is_opened_by_hand_until_it_is_reset(ostler: Ostler) -> None:
    assert listed(ostler) == []
    assert "No breaker is open." in ostler("breaker", "list").stderr
    done = ostler("breaker", "trip", "provider", "anthropic", "-r", "a strange bill", "--as", "ada", "--json")
    assert json.loads(done.stdout) == {
        "kind": "provider",
        "name": "anthropic",
        "state": "tripped",
        "changed": True,
        "tenant": "default",
    }
    assert "is open now for the tenant default" in done.stderr
    assert "was opened by hand already" in ostler("breaker", "trip", "provider", "anthropic", "-r", "again").stderr
    (one,) = listed(ostler)
    since = one.pop("since")
    assert since.startswith("2")
    assert one == {
        "tenant": "default",
        "kind": "provider",
        "name": "anthropic",
        "state": "tripped",
        "by": "ada",
        "until": None,
        "because": "a strange bill",
    }
    assert "a strange bill" in ostler("breaker", "list").stdout
    said = "The breaker of the provider anthropic is opened by hand for the tenant default (by ada): a strange bill."
    assert said in ostler("top", "--once").stdout
    (finding,) = [one for one in json.loads(ostler("doctor", "--json").stdout) if one["name"] == "breakers"]
    assert (finding["verdict"], "provider anthropic (default, tripped, by ada)" in finding["found"]) == ("warn", True)
    assert "is closed for the tenant default" in ostler("breaker", "reset", "provider", "anthropic").stderr
    assert listed(ostler) == []


@pytest.mark.usefixtures("people")
def test_what_is_open_for_everybody_is_closed_for_everybody(ostler: Ostler) -> None:
    ostler("breaker", "trip", "tool", "crm.find", "-r", "it lies", "--all")
    ostler("breaker", "trip", "tool", "crm.find", "-r", "so it does", "--as", "acme/kim")
    ((here,), (kims, alls)) = (
        listed(ostler),
        sorted(listed(ostler, "--all"), key=lambda one: one["tenant"], reverse=True),
    )
    assert (here["tenant"], kims["tenant"], alls["tenant"]) == ("*", "acme", "*")
    left = ostler("breaker", "reset", "tool", "crm.find", "--as", "acme/kim", "--json")
    assert "It is still open for everybody: `ostler breaker reset tool crm.find --all`" in left.stderr
    assert json.loads(left.stdout)["state"] == "tripped"
    ostler("breaker", "reset", "tool", "crm.find", "--all", "-r", "it was ours")
    assert listed(ostler, "--all") == []


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize(
    ("acting", "options", "said"),
    [
        ("eve", (), "eve lacks the scope 'govern'."),
        ("acme/kim", ("--all",), "kim is of the tenant acme, and governs nothing beyond it."),
        ("acme/kim", ("--tenant", "default"), "kim is of the tenant acme, and governs nothing beyond it."),
    ],
)
def test_nobody_opens_or_closes_what_is_not_theirs(
    ostler: Ostler, acting: str, options: tuple[str, ...], said: str
) -> None:
    for words in (("trip", "provider", "hay", "-r", "why not"), ("reset", "provider", "hay")):
        refused = ostler("breaker", *words, *options, "--as", acting)
        assert (refused.exit_code, said in refused.stderr) == (Exit.DENIED, True)
    assert listed(ostler, "--all") == []


def test_a_slip_of_the_name_is_noticed(ostler: Ostler) -> None:
    done = ostler("breaker", "trip", "provider", "antropic", "-r", "a strange bill")
    assert "No provider is called 'antropic' here. Did you mean 'anthropic'?" in done.stderr
    assert "No provider" not in ostler("breaker", "trip", "provider", "anthropic", "-r", "a strange bill").stderr


@pytest.mark.parametrize("words", [("trip", "model", "x", "-r", "y"), ("trip", "tool", "x"), ("reset", "tool")])
def test_what_makes_no_sense_is_refused(ostler: Ostler, words: tuple[str, ...]) -> None:
    refused = ostler("breaker", *words)
    assert (refused.exit_code, "Traceback" in refused.output) == (Exit.USAGE, False)


def test_a_server_that_does_not_answer_is_said_and_no_reason_to_fail(ostler: Ostler, project: Any) -> None:
    file = project / "ostler.toml"
    file.write_text(file.read_text() + '\n[breakers]\nredis = "redis://127.0.0.1:1"\n')
    ostler("breaker", "trip", "provider", "hay", "-r", "because")
    seen = ostler("breaker", "list", "--json")
    assert [one["name"] for one in json.loads(seen.stdout)] == ["hay"]
    assert "Redis at 127.0.0.1:1, which keeps the circuit breakers, does not answer" in seen.stderr
    (finding,) = [one for one in json.loads(ostler("doctor", "--json").stdout) if one["name"] == "breakers"]
    assert (finding["verdict"], "does not answer" in finding["found"]) == ("warn", True)
    assert "does not answer" in ostler("top", "--once").stdout
