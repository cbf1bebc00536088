"""Proofs and transport of logs, from the command line."""

import json
from pathlib import Path

from tests.cli.conftest import Ostler

OTHER = ("--store", "sqlite:///other.db")


def ran(ostler: Ostler, goal: str) -> str:
    ostler("run", "clerk", goal)
    session: str = json.loads(ostler("ps", "--all", "--json").stdout)[0]["id"]
    return session


def test_a_replay_reaches_nothing_and_gives_the_same_state(ostler: Ostler, project: Path) -> None:
    session = ran(ostler, "rob")
    (project / "tools.py").unlink()
    first = json.loads(ostler("replay", session, "--json").stdout)
    assert first == json.loads(ostler("replay", session, "--json").stdout)
    assert first[0]["decisions"] > 0
    assert len(first[0]["digest"]) == 64
    assert ostler("replay").exit_code == 2


def test_what_is_exported_can_be_imported_elsewhere_and_proved(ostler: Ostler, project: Path) -> None:
    ended, live = ran(ostler, "write"), ran(ostler, "pay")
    exported = ostler("export", ended, live, "--to", "file.jsonl")
    assert exported.exit_code == 0, exported.stderr
    imported = ostler(*OTHER, "import", "file.jsonl", "--json")
    assert [(one["session"], one["blobs"], one["is_live"]) for one in json.loads(imported.stdout)] == [
        (ended, 1, False),
        (live, 0, True),
    ]
    assert f"ostler resume {live}" in imported.stderr
    for command in (("logs", ended, "--raw"), ("inspect", live, "--state"), ("replay", ended, "--json")):
        assert ostler(*OTHER, *command).stdout == ostler(*command).stdout
    assert ostler(*OTHER, "verify").exit_code == 0


def test_an_export_goes_to_standard_output_and_an_import_comes_from_standard_input(ostler: Ostler) -> None:
    session = ran(ostler, "answer")
    text = ostler("export", session).stdout
    assert ostler(*OTHER, "import", "-", input=text).exit_code == 0
    assert session in ostler(*OTHER, "ps", "--all").stdout


def test_an_import_overwrites_nothing(ostler: Ostler) -> None:
    session = ran(ostler, "answer")
    text = ostler("export", session).stdout
    result = ostler("import", "-", input=text)
    assert result.exit_code == 7
    assert "nothing is overwritten" in result.stderr


def test_an_altered_file_is_refused_and_nothing_of_it_is_taken_in(ostler: Ostler) -> None:
    first, second = ran(ostler, "answer"), ran(ostler, "answer")
    lines = ostler("export", first, second).stdout.splitlines(keepends=True)
    lines[-1] = lines[-1].replace("forty-two", "forty-one")
    result = ostler(*OTHER, "import", "-", input="".join(lines))
    assert result.exit_code == 8
    assert "its hash does not fit" in result.stderr
    assert json.loads(ostler(*OTHER, "ps", "--all", "--json").stdout) == []
    assert ostler(*OTHER, "import", "-", input="no export at all\n").exit_code == 2


def test_an_imported_session_does_not_start_by_itself(ostler: Ostler, project: Path) -> None:
    session = ostler("run", "clerk", "answer", "--detach").stdout.strip()
    text = ostler("export", session).stdout
    ostler(*OTHER, "import", "-", input=text)
    assert ostler(*OTHER, "worker", "--until-idle").exit_code == 0
    assert json.loads(ostler(*OTHER, "ps", "--json").stdout)[0]["status"] == "queued"
    assert ostler(*OTHER, "resume", session).stdout == "forty-two\n"


def test_an_import_with_resume_lets_workers_go_on(ostler: Ostler) -> None:
    session = ostler("run", "clerk", "answer", "--detach").stdout.strip()
    text = ostler("export", session).stdout
    ostler(*OTHER, "import", "-", "--resume", input=text)
    assert ostler(*OTHER, "worker", "--until-idle").exit_code == 0
    assert json.loads(ostler(*OTHER, "ps", "--all", "--json").stdout)[0]["text"] == "forty-two"


def test_verify_says_what_it_has_looked_at(ostler: Ostler) -> None:
    session = ran(ostler, "write")
    (one,) = json.loads(ostler("verify", session, "--json").stdout)
    assert (one["stream"], one["blobs"], one["problems"]) == (session, 1, [])
    everything = json.loads(ostler("verify", "--all", "--json").stdout)
    assert {stream["stream"][:4] for stream in everything} == {"ses_", "wrk_"}
    assert ostler("verify", "--all", session).exit_code == 2
    assert ostler("verify", "ses_nothing").exit_code == 7
