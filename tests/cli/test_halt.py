"""Halting and releasing: what it says, what it stops, and where it is seen."""

import json
from pathlib import Path

import pytest

from ostler.cli.exits import Exit
from tests.cli.conftest import Ostler
from tests.cli.test_look import ran


@pytest.fixture
def people(ostler: Ostler) -> None:
    """Somebody who governs, somebody who does not, and somebody of another tenant who does."""
    for name, scope, acting in (("ada", "govern", "local"), ("eve", "crm.*", "local"), ("kim", "govern", "acme/local")):
        assert ostler("principal", "add", name, "--scope", scope, "--as", acting).exit_code == 0


@pytest.mark.usefixtures("people")
def test_nothing_starts_and_nothing_begins_until_it_is_released(ostler: Ostler) -> None:
    waiting = ran(ostler, "pay")
    halted = ostler("halt", "a strange bill", "--as", "ada")
    assert (halted.exit_code, "The tenant default is halted." in halted.stderr) == (0, True)
    assert "was halted already" in ostler("halt", "again").stderr
    refused = ostler("run", "clerk", "answer")
    assert refused.exit_code == Exit.CONFLICT
    assert "halted by ada: a strange bill" in refused.stderr
    ostler("approve", waiting)
    left = ostler("resume", waiting, "--timeout", "0.5")
    assert left.exit_code == Exit.TIMED_OUT
    assert not Path("paid").exists()
    released = ostler("release", "-r", "it was ours", "--as", "ada", "--json")
    assert json.loads(released.stdout) == {"halted": False, "changed": True, "tenant": "default"}
    assert ostler("resume", waiting).exit_code == 0
    assert Path("paid").read_text() == "5\n"


@pytest.mark.usefixtures("people")
def test_what_is_halted_is_said_wherever_sessions_are_looked_at(ostler: Ostler) -> None:
    for words in (("ps",), ("top", "--once")):
        assert "is halted" not in ostler(*words).output
    ostler("halt", "a strange bill", "--as", "ada")
    ostler("halt", "the whole house", "--all")
    listed = ostler("ps")
    here = "The tenant default is halted by ada since 2"
    assert here in listed.stderr
    assert "a strange bill. `ostler release` lets it go on." in listed.stderr
    assert "Everything is halted by local since 2" in listed.stderr
    assert "`ostler release --all`" in listed.stderr
    assert here in ostler("top", "--once").stdout
    halts = json.loads(ostler("top", "--json").stdout)["halted"]
    assert [(one["tenant"], one["by"], one["reason"]) for one in halts] == [
        ("*", "local", "the whole house"),
        ("default", "ada", "a strange bill"),
    ]
    assert json.loads(ostler("ps", "--json").stdout) == []
    ostler("release", "--all")
    ostler("release")
    assert "is halted" not in ostler("ps").output


@pytest.mark.usefixtures("people")
def test_since_when_it_is_halted_is_the_last_time(ostler: Ostler) -> None:
    def since() -> str:
        (one,) = json.loads(ostler("top", "--json").stdout)["halted"]
        found: str = one["since"]
        return found

    ostler("halt", "once")
    first = since()
    ostler("release")
    ostler("halt", "twice")
    assert since() > first


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize(
    ("acting", "options", "said"),
    [
        ("eve", (), "eve lacks the scope 'govern'."),
        ("acme/kim", ("--all",), "kim is of the tenant acme, and governs nothing beyond it."),
        ("acme/kim", ("--tenant", "default"), "kim is of the tenant acme, and governs nothing beyond it."),
    ],
)
def test_nobody_halts_what_is_not_theirs_to_halt(
    ostler: Ostler, acting: str, options: tuple[str, ...], said: str
) -> None:
    for words in (("halt", "because"), ("release",)):
        refused = ostler(*words, *options, "--as", acting)
        assert (refused.exit_code, said in refused.stderr) == (Exit.DENIED, True)
    assert "is halted" not in ostler("ps").output


@pytest.mark.usefixtures("people")
def test_a_tenant_halts_itself_and_nobody_else(ostler: Ostler) -> None:
    assert "The tenant acme is halted." in ostler("halt", "because", "--as", "acme/kim").stderr
    assert ostler("run", "clerk", "answer").exit_code == 0
    refused = ostler("run", "clerk", "answer", "--as", "acme/kim")
    assert (refused.exit_code, "halted by kim" in refused.stderr) == (Exit.CONFLICT, True)
    assert "`ostler release --tenant acme`" in ostler("ps", "--as", "acme/kim").stderr
    assert "is halted" not in ostler("ps").output
    assert "is released" in ostler("release", "--tenant", "acme").stderr
    assert ostler("run", "clerk", "answer", "--as", "acme/kim").exit_code == 0
