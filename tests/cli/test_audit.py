"""Signing, exporting and verifying from the command line, with nothing but files between two machines."""

import json
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.conftest import Ostler

NOWHERE = ("--store", "sqlite:///nowhere.db")


@pytest.fixture(autouse=True)
def key_of_the_test(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSTLER_AUDIT_KEY", str(project / "audit.key"))


def made_key(ostler: Ostler) -> str:
    key: str = json.loads(ostler("audit", "key", "--name", "stable.example", "--json").stdout)["verifier_key"]
    return key


def ran(ostler: Ostler, goal: str) -> str:
    ostler("run", "clerk", goal)
    session: str = json.loads(ostler("ps", "--all", "--json").stdout)[0]["id"]
    return session


def outcomes(stdout: str) -> dict[str, str]:
    return {check["name"]: check["outcome"] for check in json.loads(stdout)}


def test_a_key_is_made_once_and_only_its_public_half_is_shown(ostler: Ostler, project: Path) -> None:
    first = ostler("audit", "key", "--name", "stable.example")
    assert "stable.example/default+" in first.stdout
    secret = (project / "audit.key").read_text()
    assert stat.S_IMODE((project / "audit.key").stat().st_mode) == 0o600
    again = ostler("audit", "key", "--json")
    assert json.loads(again.stdout)["verifier_key"] in first.stdout
    assert "was there already" in again.stderr
    assert secret.split("+")[-1].strip() not in first.stdout + first.stderr + again.stdout
    assert "%2A" in ostler("audit", "key", "--tenant", "*").stdout


def test_what_is_signed_and_exported_here_is_proved_elsewhere_without_a_store(ostler: Ostler, project: Path) -> None:
    key, session = made_key(ostler), ran(ostler, "rob")
    printed = ostler("audit", "checkpoint", "--out", "kept.note")
    assert printed.exit_code == 0, printed.stderr
    assert (project / "kept.note").read_text() == printed.stdout
    assert printed.stdout.startswith("stable.example/default\n")
    ran(ostler, "write")
    assert ostler("audit", "checkpoint").exit_code == 0
    exported = ostler("audit", "export", "proofs.jsonl")
    assert exported.exit_code == 0, exported.stderr
    judge = ("audit", "verify", "proofs.jsonl", "--key", key, "--checkpoint", "kept.note")
    events = [json.loads(line) for line in (project / "proofs.jsonl").read_text().splitlines()]
    (denied,) = [one["seq"] for one in events if one["line"] == "event" and one["event"]["type"] == "constraint.failed"]
    result = ostler(*NOWHERE, *judge, "--decision", f"{session}/{denied}", "--json")
    assert result.exit_code == 0, result.stderr
    assert set(outcomes(result.stdout).values()) == {"holds"}
    assert "no-robbery" in json.loads(result.stdout)[-1]["found"]
    assert not (project / "nowhere.db").exists()
    assert "decision" in ostler(*judge, "--decision", f"{session}/{denied}").stdout
    again = ostler("audit", "export", "proofs.jsonl")
    assert (again.exit_code, "nothing is overwritten" in again.stderr) == (7, True)


def test_a_file_that_was_tampered_with_fails_and_is_told(ostler: Ostler, project: Path) -> None:
    key = made_key(ostler)
    ran(ostler, "rob")
    ostler("audit", "checkpoint")
    ostler("audit", "export", "proofs.jsonl")
    file = project / "proofs.jsonl"
    file.write_bytes(file.read_bytes().replace(b"it is not ours", b"it is all ours"))
    result = ostler("audit", "verify", "proofs.jsonl", "--key", key)
    assert result.exit_code == 8
    assert "was altered" in result.stdout
    assert ostler("audit", "verify", "-", input="no audit file\n").exit_code == 2


def test_single_sessions_and_periods_can_be_exported(ostler: Ostler, project: Path) -> None:
    key, session = made_key(ostler), ran(ostler, "rob")
    ran(ostler, "answer")
    ostler("audit", "checkpoint")
    done = ostler("audit", "export", "one.jsonl", "--session", session[:-2], "--json")
    assert json.loads(done.stdout)["file"] == "one.jsonl"
    result = ostler("audit", "verify", "one.jsonl", "--key", key, "--json")
    assert outcomes(result.stdout)["period"] == "unchecked"
    assert result.exit_code == 0
    assert "nothing is known of: period" in result.stderr
    assert ostler("audit", "export", "two.jsonl", "--from", "2020-01-01", "--to", "2021-01-01T00:00Z").exit_code == 0
    assert ostler("audit", "verify", "two.jsonl", "--key", key).exit_code == 0
    assert ostler("audit", "export", "three.jsonl", "--to", "2999-01-01").exit_code == 7
    assert ostler("audit", "export", "three.jsonl", "--from", "yesterday").exit_code == 2
    assert not (project / "three.jsonl").exists()


def test_a_store_whose_tail_was_cut_is_found_by_a_checkpoint_that_was_kept_elsewhere(
    ostler: Ostler, project: Path
) -> None:
    key = made_key(ostler)
    ran(ostler, "answer")
    ostler("audit", "checkpoint", "--out", "kept.note")
    (project / "stable.vkey").write_text(key + "\n")
    judge = ("audit", "verify", "--key", "stable.vkey", "--checkpoint", "kept.note", "--json")
    whole = ostler(*judge)
    assert whole.exit_code == 0, whole.stderr
    assert outcomes(whole.stdout)["checkpoint kept.note"] == "holds"
    with closing(sqlite3.connect(project / ".ostler/ostler.db")) as hand:
        for statement in ("DELETE FROM events WHERE position > 3", "DELETE FROM view_rows", "DELETE FROM views"):
            hand.execute(statement)
        hand.commit()
    result = ostler(*judge)
    assert result.exit_code == 8
    assert outcomes(result.stdout)["checkpoint kept.note"] == "fails"
    assert "cut short" in result.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("checkpoint",),
        ("export", "x.jsonl"),
        ("verify", "--decision", "ses_1"),
        ("verify", "--key", "no key"),
        ("verify", "nothing.jsonl"),
    ],
)
def test_what_cannot_be_done_is_refused_without_a_traceback(ostler: Ostler, arguments: tuple[str, ...]) -> None:
    result = ostler("audit", *arguments)
    assert result.exit_code in (2, 7)
    assert "Traceback" not in result.stderr


def test_a_single_decision_is_proved_by_a_few_lines(ostler: Ostler, project: Path) -> None:
    key, session = made_key(ostler), ran(ostler, "rob")
    ostler("audit", "checkpoint")
    proof = ostler("audit", "prove", f"{session}/1")
    assert proof.exit_code == 0, proof.stderr
    result = ostler(*NOWHERE, "audit", "verify", "-", "--key", key, "--json", input=proof.stdout)
    assert set(outcomes(result.stdout).values()) == {"holds"}
    forged = proof.stdout.replace("index 0", "index 1").replace("index 1", "index 2")
    assert ostler("audit", "verify", "-", "--key", key, input=forged).exit_code == 8
    assert ostler("audit", "prove", session).exit_code == 2
    more = ostler("audit", "verify", "-", "--decision", f"{session}/1", input=proof.stdout)
    assert (more.exit_code, "shows no other" in more.stderr) == (2, True)
