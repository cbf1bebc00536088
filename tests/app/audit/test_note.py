"""Signed notes are those of the specification, by its reference data; what is none is refused."""

import os
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostler.app.audit.keys import key_file, make_key, read_key
from ostler.app.audit.note import (
    SigningKey,
    is_log_of,
    read_note,
    read_signing_key,
    read_verifier_key,
)
from ostler.app.world import SystemEntropy
from ostler.domain.audit import Checkpoint, read_checkpoint
from ostler.kernel.errors import ConfigurationError, NotFound, UsageError

VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
SKEY = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
SIGNATURE = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
NOTE = f"{TEXT}\n— PeterNeumann {SIGNATURE}\n"
"""The example of the reference implementation, golang.org/x/mod/sumdb/note."""


def test_the_reference_note_is_verified_by_its_key_and_by_no_other() -> None:
    note, key = read_note(NOTE), read_verifier_key(VKEY)
    assert note.text == TEXT
    assert str(key) == VKEY
    assert note.signer([key]) == key
    assert note.signer([SigningKey("PeterNeumann", bytes(32)).verifier("x")]) is None
    assert read_note(NOTE.replace("answer", "ANSWER")).signer([key]) is None


def test_the_reference_key_belongs_to_the_reference_verifier_key() -> None:
    key = read_signing_key(SKEY)
    assert key.text() == SKEY + "\n"
    assert key.verifier("acme").public == read_verifier_key(VKEY).public
    assert "AYEKF" not in repr(key)


@given(st.text(min_size=1, max_size=20))
def test_what_is_signed_for_a_tenant_is_verified_under_the_name_of_its_log(tenant: str) -> None:
    key = SigningKey("stable.example", bytes(32))
    said = Checkpoint(key.origin(tenant), 7, bytes(32))
    note = read_note(key.sign(said.text(), tenant))
    assert read_checkpoint(note.text) == said
    assert note.signer([key.verifier(tenant)]) == read_verifier_key(str(key.verifier(tenant)))
    assert note.signer([key.verifier(tenant + "2")]) is None
    assert is_log_of(said.origin, tenant)
    assert not is_log_of(said.origin, tenant + "2")


@pytest.mark.parametrize(
    "text",
    ["", "\n", "a\n", "a\n\n", "a\n\nb\n", "a\n\n— b\n", "a\n\n— b c\n", "a\n\n— b AAAA\n", NOTE[:-1], NOTE + "\n"],
)
def test_what_is_no_signed_note_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no signed note"):
        read_note(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a\n1\n",
        "\n1\nAAAA\n",
        f"a\n01\n{Checkpoint('a', 1, bytes(32)).text().split()[2]}\n",
        "a\n-1\nAAAA\n",
        "a\n1\nAAAA\n",
        "a\n1\n!\n",
        Checkpoint("a", 1, bytes(32)).text()[:-1],
        Checkpoint("a", 1, bytes(32)).text() + "\n",
    ],
)
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no checkpoint"):
        read_checkpoint(text)


def test_extension_lines_of_a_checkpoint_are_passed_over() -> None:
    said = Checkpoint("a", 0, bytes(32))
    assert read_checkpoint(said.text() + "more\n") == said


@pytest.mark.parametrize("text", ["", "a", "a+b+c", VKEY[:-4], VKEY.replace("c74f20a3", "c74f20a4"), "+00000000+AAAA"])
def test_what_is_no_verifier_key_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        read_verifier_key(text)


def test_a_key_file_is_readable_by_its_owner_only_and_never_overwritten(tmp_path) -> None:
    file = tmp_path / "deep" / "audit.key"
    key = make_key(file, "stable.example", SystemEntropy())
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert read_key(file) == key
    with pytest.raises(ConfigurationError, match="exists"):
        make_key(file, "stable.example", SystemEntropy())
    file.chmod(0o640)
    with pytest.raises(ConfigurationError, match="read by others"):
        read_key(file)


def test_a_damaged_key_file_is_refused_without_showing_what_is_in_it(tmp_path) -> None:
    file = tmp_path / "audit.key"
    with pytest.raises(NotFound):
        read_key(file)
    os.close(os.open(file, os.O_CREAT, 0o600))
    for text in ("", SKEY[:-4], SKEY.replace("PRIVATE", "PUBLIC")):
        file.write_text(text)
        with pytest.raises(UsageError) as refused:
            read_key(file)
        assert "AYEKF" not in str(refused.value.as_dict())


def test_a_key_has_a_name_that_a_note_can_carry(tmp_path) -> None:
    for name in ("", "a b", "a+b", "a\n"):
        with pytest.raises(UsageError, match="cannot name"):
            make_key(tmp_path / "audit.key", name, SystemEntropy())


def test_the_key_file_is_that_of_the_option_then_of_the_environment_then_of_the_user(tmp_path) -> None:
    environ = {"OSTLER_AUDIT_KEY": "/keys/mine", "HOME": "/home"}
    assert str(key_file(tmp_path, environ)) == str(tmp_path)
    assert str(key_file(None, environ)) == "/keys/mine"
    assert str(key_file(None, {"HOME": "/home"})) == "/home/.config/ostler/audit.key"
    assert str(key_file(None, {"XDG_CONFIG_HOME": "/etc/xdg"})) == "/etc/xdg/ostler/audit.key"
    with pytest.raises(ConfigurationError):
        key_file(None, {})
