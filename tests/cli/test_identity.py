"""Who may what, on the command line: principals, grants, tokens, the vault, and the record of agents."""

import json
from pathlib import Path

import pytest

from ostler.cli.exits import Exit
from tests.cli.conftest import Ostler

CANARY = "c4n4ry-in-the-vault"


@pytest.fixture
def key(ostler: Ostler, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    path = tmp_path / "keys" / "vault.key"
    assert ostler("vault", "key", str(path)).exit_code == 0
    monkeypatch.setenv("OSTLER_VAULT_KEY_FILE", str(path))
    return path


def test_principals_are_added_changed_shown_and_removed(ostler: Ostler) -> None:
    assert "nobody but the owner" in ostler("principal", "list").stderr
    assert ostler("principal", "add", "ada", "--scope", "crm.*", "--scope", "pay", "--role", "finance").exit_code == 0
    assert ostler("principal", "add", "robot", "--kind", "service").exit_code == 0
    listed = json.loads(ostler("principal", "list", "--json").stdout)
    assert [(one["id"], one["kind"], one["scopes"], one["roles"]) for one in listed] == [
        ("ada", "user", ["crm.*", "pay"], ["finance"]),
        ("robot", "service", [], []),
    ]
    assert "crm.* pay" in ostler("principal", "list").stdout
    assert ostler("principal", "change", "ada", "--scope", "crm.read", "--no-roles").exit_code == 0
    shown = json.loads(ostler("principal", "show", "ada", "--json").stdout)
    assert (shown["scopes"], shown["roles"], shown["grants"]) == (["crm.read"], [], [])
    assert ostler("principal", "remove", "ada", "--because", "gone").exit_code == 0
    history = json.loads(ostler("principal", "history", "--json").stdout)
    kinds = [one["type"].removeprefix("principal.") for one in history]
    assert kinds == ["added", "added", "changed", "removed"]
    assert history[-1]["data"] == {"id": "ada", "because": "gone"}


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("principal", "show", "eve"), Exit.CONFLICT, "There is no principal 'eve'."),
        (("principal", "add", "a b"), Exit.USAGE, "is no id"),
        (("principal", "add", "local"), Exit.USAGE, "always there"),
        (("principal", "change", "eve"), Exit.USAGE, "Say which scopes or roles"),
        (("principal", "list", "--as", "eve"), Exit.CONFLICT, "There is no principal 'eve'."),
        (("principal", "list", "--as", "/"), Exit.USAGE, "names nobody"),
        (("token", "revoke", "gra_1"), Exit.CONFLICT, "There is no grant 'gra_1'."),
        (("token", "mint", "--to", "agent:a@1", "--lasts", "soon"), Exit.USAGE, "no span of time"),
        (("token", "mint", "--to", "agent:a@1", "--scope", "a b"), Exit.USAGE, "is no scope or tool"),
        (("token", "mint", "--to", "agent:a@1", "--audience", "mill"), Exit.USAGE, "There is no key to sign"),
        (("token", "show"), Exit.USAGE, "no token on standard input"),
        (("token", "keys"), Exit.CONFLICT, "no keys yet"),
        (("token", "rotate"), Exit.USAGE, "There is no key to the vault."),
        (("vault", "set", "TOKEN"), Exit.USAGE, "There is no key to the vault."),
        (("vault", "set", "token"), Exit.USAGE, "is no name of a secret"),
        (("vault", "set", "OSTLER_TOKEN_KEYS"), Exit.USAGE, "Ostler's own"),
    ],
)
def test_a_slip_is_told_and_nothing_is_done(ostler: Ostler, words: tuple[str, ...], code: Exit, said: str) -> None:
    done = ostler(*words)
    assert done.exit_code == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads(ostler("principal", "history", "--json").stdout) == []


def test_acting_as_somebody_is_acting_within_their_rights(ostler: Ostler, monkeypatch: pytest.MonkeyPatch) -> None:
    ostler("principal", "add", "ada", "--scope", "crm.*")
    refused = ostler("principal", "add", "eve", "--as", "ada")
    assert "ada lacks the scope identity.write" in refused.stderr
    assert refused.exit_code != 0
    monkeypatch.setenv("OSTLER_PRINCIPAL", "ada")
    assert "ada lacks the scope identity.write" in ostler("principal", "add", "eve").stderr
    assert ostler("token", "mint", "--to", "agent:a@1", "--scope", "crm.read").exit_code == 0
    assert ostler("token", "mint", "--to", "agent:a@1", "--scope", "pay").exit_code == Exit.USAGE


def test_each_tenant_has_a_directory_of_its_own(ostler: Ostler) -> None:
    assert ostler("principal", "add", "ada", "--as", "acme/local").exit_code == 0
    assert json.loads(ostler("principal", "list", "--json").stdout) == []
    (ada,) = json.loads(ostler("principal", "list", "--as", "acme/local", "--json").stdout)
    assert (ada["id"], ada["tenant"]) == ("ada", "acme")
    assert ostler("principal", "list", "--as", "ada").exit_code == Exit.CONFLICT
    assert ostler("principal", "list", "--as", "acme/ada").exit_code == 0


def test_a_grant_is_lent_listed_and_revoked(ostler: Ostler) -> None:
    ostler("principal", "add", "ada", "--scope", "crm.*")
    done = ostler("token", "mint", "--for", "ada", "--to", "agent:a@1", "--tool", "crm.*", "--depth", "1", "--json")
    minted = json.loads(done.stdout)
    assert minted["token"] == ""
    child = ostler("token", "mint", "--from", minted["grant"], "--to", "agent:b@1", "--lasts", "1m").stdout.strip()
    assert ostler("token", "mint", "--from", child, "--to", "agent:c@1").exit_code == Exit.USAGE
    listed = json.loads(ostler("token", "list", "--json").stdout)
    assert [(one["id"], one["actor"], one["parent"], one["fault"]) for one in listed] == [
        (child, "agent:b@1", minted["grant"], ""),
        (minted["grant"], "agent:a@1", None, ""),
    ]
    assert ostler("token", "revoke", minted["grant"], "--because", "done").exit_code == 0
    assert ostler("token", "list").stdout.count("was revoked (done)") == 2


def test_a_session_is_bound_by_a_grant_that_is_to_its_agent(ostler: Ostler) -> None:
    def grant(actor: str) -> str:
        return ostler("token", "mint", "--to", actor, "--tool", "look").stdout.strip()

    done = ostler("run", "clerk", "chat", "--grant", grant("agent:clerk@1"))
    assert "is not for chat" in done.stderr
    assert "→ call" not in done.stderr
    sessions = len(json.loads(ostler("ps", "--all", "--json").stdout))
    others = ostler("run", "clerk", "chat", "--grant", grant("agent:other@1"))
    assert (others.exit_code, "is to agent:other@1, not to agent:clerk@1" in others.stderr) == (Exit.USAGE, True)
    assert ostler("run", "clerk", "chat", "--grant", "gra_nowhere").exit_code == Exit.CONFLICT
    assert len(json.loads(ostler("ps", "--all", "--json").stdout)) == sessions


def test_a_session_of_another_tenant_is_looked_at_as_somebody_of_it(ostler: Ostler) -> None:
    ostler("run", "clerk", "chat", "--as", "acme/local")
    (session,) = json.loads(ostler("ps", "--all", "--json", "--as", "acme/local").stdout)
    for words in (("logs", session["id"]), ("inspect", session["id"]), ("why", session["id"], "1.1")):
        assert ostler(*words).exit_code == Exit.CONFLICT, words
        shown = ostler(*words, "--as", "acme/local")
        assert (shown.exit_code, "chat" in shown.stdout) == (0, True), words
    assert ostler("policy", "explain", f"{session['id']}/4", "--as", "acme/local").exit_code == 0


def test_a_vault_that_nothing_opens_is_told_of(ostler: Ostler, key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ostler("vault", "set", "TOKEN", input=CANARY)
    monkeypatch.delenv("OSTLER_VAULT_KEY_FILE")
    told = ostler("vault", "list").stderr
    assert "was not looked into: set OSTLER_VAULT_KEY_FILE or OSTLER_VAULT_PASSPHRASE" in told
    assert CANARY not in told


def test_a_token_is_minted_verified_and_refused_once_it_is_revoked(ostler: Ostler, key: Path, tmp_path: Path) -> None:
    assert ostler("token", "rotate").exit_code == 0
    minted = json.loads(ostler("token", "mint", "--to", "agent:a@1", "--audience", "mill", "--json").stdout)
    token = minted["token"]
    assert json.loads(ostler("token", "show", "--json", input=token).stdout)["claims"]["sub"] == "local"
    verified = ostler("token", "verify", "--audience", "mill", "--json", input=token + "\n")
    assert json.loads(verified.stdout)["grant"]["actor"] == "agent:a@1"
    assert ostler("token", "verify", "--audience", "bakery", input=token).exit_code != 0
    assert ostler("token", "verify", "--audience", "mill", input=token[:-9]).exit_code != 0
    (tmp_path / "keys.json").write_text(ostler("token", "keys").stdout)
    abroad = ("token", "verify", "--audience", "mill", "--keys", str(tmp_path / "keys.json"))
    assert ostler(*abroad, input=token).exit_code == 0
    assert "is for the tenant 'default'" in ostler(*abroad, "--tenant", "acme", input=token).stderr
    assert ostler("token", "rotate").exit_code == 0
    assert ostler("token", "verify", "--audience", "mill", input=token).exit_code == 0
    ostler("token", "revoke", minted["grant"])
    revoked = ostler("token", "verify", "--audience", "mill", "--json", input=token)
    assert json.loads(revoked.stderr)["error"]["code"] == "token_refused"


def test_keys_are_shown_by_no_command(ostler: Ostler, key: Path) -> None:
    ostler("token", "rotate")
    shown = [ostler(*words) for words in (("token", "keys"), ("vault", "list"), ("vault", "list", "--json"))]
    assert json.loads(shown[0].stdout)["keys"][0]["kty"] == "OKP"
    assert all('"d"' not in one.stdout + one.stderr for one in shown)
    assert "OSTLER_TOKEN_KEYS" not in shown[1].stdout + shown[2].stdout


def test_a_secret_is_set_listed_and_removed_and_never_shown(ostler: Ostler, key: Path, project: Path) -> None:
    said = [
        ostler("vault", "set", "TOKEN", input=CANARY + "\n"),
        ostler("vault", "set", "TOKEN", input=CANARY + "-2\n"),
        ostler("vault", "set", "TOKEN", "--tenant", "acme", input=CANARY),
        ostler("vault", "list"),
        ostler("vault", "list", "--json"),
        ostler("vault", "list", "--tenant", "acme"),
        ostler("vault", "remove", "TOKEN", "--tenant", "acme"),
        ostler("vault", "list", "--tenant", "acme"),
    ]
    assert [one.exit_code for one in said] == [0] * len(said)
    assert "TOKEN of the tenant default was replaced." in said[1].stderr
    assert json.loads(said[4].stdout) == [{"tenant": "default", "name": "TOKEN"}]
    assert "There are no secrets of the tenant acme." in said[7].stderr
    assert all(CANARY not in one.output for one in said)
    assert all(CANARY.encode() not in path.read_bytes() for path in project.rglob("*") if path.is_file())
    assert ostler("vault", "remove", "TOKEN", "--tenant", "acme").exit_code == Exit.CONFLICT


def test_a_short_value_is_refused_without_being_said(ostler: Ostler, key: Path) -> None:
    done = ostler("vault", "set", "TOKEN", input="s3cret\n")
    assert done.exit_code == Exit.USAGE
    assert "s3cret" not in done.output


def test_a_vault_is_encrypted_anew_under_another_key(
    ostler: Ostler, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ostler("vault", "set", "TOKEN", input=CANARY)
    ostler("vault", "key", str(tmp_path / "new.key"))
    assert ostler("vault", "rotate", "--key-file", str(tmp_path / "new.key")).exit_code == 0
    refused = ostler("vault", "list")
    assert (refused.exit_code, "does not open with this key file" in refused.stderr) == (Exit.FAILED, True)
    monkeypatch.setenv("OSTLER_VAULT_KEY_FILE", str(tmp_path / "new.key"))
    assert "TOKEN" in ostler("vault", "list").stdout
    monkeypatch.setenv("OSTLER_VAULT_PASSPHRASE", "another way")
    assert "are both set" in ostler("vault", "list").stderr


def test_the_environment_is_a_vault_without_a_key(ostler: Ostler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSTLER_SECRET_TOKEN", CANARY)
    monkeypatch.setenv("OSTLER_SECRET_ACME__OTHER", CANARY)
    assert json.loads(ostler("vault", "list", "--json").stdout) == [{"tenant": "default", "name": "TOKEN"}]
    acme = ostler("vault", "list", "--tenant", "acme", "--json")
    assert json.loads(acme.stdout) == [{"tenant": "acme", "name": "OTHER"}]


def test_agents_have_a_record(ostler: Ostler) -> None:
    assert "No agent has done anything here yet." in ostler("agents").stderr
    for goal in ("answer", "rob"):
        ostler("run", "clerk", goal)
    (record,) = json.loads(ostler("agents", "--json").stdout)
    assert (record["agent"], record["sessions"], record["refused"]) == ("agent:clerk@1", 2, 1)
    assert record["endings"] == {"completed (final_answer)": 2}
    assert record["first"] < record["last"]
    assert "clerk@1" in ostler("agents", "clerk").stdout
    assert json.loads(ostler("agents", "clerk@2", "--json").stdout) == []
    assert "clerk@2 has done nothing here yet." in ostler("agents", "clerk@2").stderr
