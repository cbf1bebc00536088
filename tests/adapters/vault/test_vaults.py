"""Vaults give each tenant its own secrets, tell nobody else, and say clearly why they do not open."""

import asyncio
import json
import os
import pickle
import stat
import sys
from collections.abc import Callable
from copy import copy, deepcopy
from pathlib import Path

import msgspec
import pytest

from ostler.adapters.vault import file as vault_file
from ostler.adapters.vault.environment import EnvironmentVault
from ostler.adapters.vault.file import FileVault, Key, make_key_file, read_key_file
from ostler.adapters.vault.several import Vaults
from ostler.domain.secret import CHARS_MIN, Secret
from ostler.kernel.errors import ConfigurationError, Conflict, NotFound, SecretMissing, VaultError

VALUE = "hunter2-hunter2"
KEY = Key("key file", bytes(32))


@pytest.fixture
def vault(tmp_path: Path) -> FileVault:
    return FileVault(tmp_path / "vault", KEY)


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vault_file, "SCRYPT_LOG_N", 4)


SHOWN: list[Callable[[Secret], object]] = [
    repr,
    str,
    lambda secret: f"{secret}",
    lambda secret: f"{secret!r:>40}",
    lambda secret: "%s" % (secret,),  # noqa: UP031
    lambda secret: repr([secret, {"k": secret}]),
]


@pytest.mark.parametrize("show", SHOWN)
def test_a_secret_is_shown_as_its_name(show: Callable[[Secret], object]) -> None:
    shown = str(show(Secret("TOKEN", VALUE)))
    assert VALUE not in shown
    assert "TOKEN" in shown


@pytest.mark.parametrize(
    "leave",
    [
        msgspec.json.encode,
        msgspec.msgpack.encode,
        msgspec.to_builtins,
        json.dumps,
        pickle.dumps,
        copy,
        deepcopy,
        vars,
        msgspec.structs.asdict,
    ],
)
def test_a_secret_does_not_leave_by_accident(leave: Callable[[Secret], object]) -> None:
    with pytest.raises((TypeError, msgspec.MsgspecError)) as refused:
        leave(Secret("TOKEN", VALUE))
    assert VALUE not in str(refused.value)


@pytest.mark.parametrize("value", ["", "x" * (CHARS_MIN - 1), "x" * 70_000, "\udc80" * 9, "a\0" * 9])
def test_a_value_that_could_not_be_recognised_is_no_secret(value: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        Secret("TOKEN", value)
    assert not value or value not in str(refused.value.as_dict())


async def test_the_environment_has_a_tenants_secrets_and_gives_them_to_no_other() -> None:
    vault = EnvironmentVault(
        {
            "OSTLER_SECRET_TOKEN": "of the default tenant",
            "OSTLER_SECRET_ACME_INC__TOKEN": "of the tenant acme-inc",
            "OSTLER_SECRET_EMPTY": "",
            "OTHER_TOKEN": "of nobody",
        }
    )
    assert (await vault.get("default", "TOKEN")).reveal() == "of the default tenant"
    assert (await vault.get("acme-inc", "TOKEN")).reveal() == "of the tenant acme-inc"
    assert (await vault.names("default"), await vault.names("acme-inc")) == (["TOKEN"], ["TOKEN"])
    for tenant in ("acme", "acme_inc", "ACME-INC", "Acme-Inc", "acme--inc", "acme-inc-", "", "a b"):
        assert await vault.names(tenant) == []
        with pytest.raises(SecretMissing):
            await vault.get(tenant, "TOKEN")
    for name in ("EMPTY", "OTHER"):
        with pytest.raises(SecretMissing):
            await vault.get("default", name)


@pytest.mark.parametrize("name", ["", "token", "A__B", "ACME_INC__TOKEN", "_A", "A_", "A B", "A=B", "A" * 65, "Ä"])
async def test_what_is_no_name_is_refused_everywhere(name: str, vault: FileVault) -> None:
    for one in (EnvironmentVault({f"OSTLER_SECRET_{name}": VALUE}), vault):
        with pytest.raises(ConfigurationError):
            await one.get("default", name)
    with pytest.raises(ConfigurationError):
        await vault.set("default", Secret(name, VALUE))


async def test_a_file_keeps_secrets_of_each_tenant_until_they_are_removed(vault: FileVault) -> None:
    assert await vault.names("acme") == []
    assert await vault.set("acme", Secret("TOKEN", VALUE)) is False
    assert await vault.set("acme", Secret("TOKEN", "changed " + VALUE)) is True
    await vault.set("rival", Secret("TOKEN", "another's " + VALUE))
    again = FileVault(vault.path, KEY)
    for one in (vault, again):
        assert (await one.get("acme", "TOKEN")).reveal() == "changed " + VALUE
        assert (await one.get("rival", "TOKEN")).reveal() == "another's " + VALUE
    await again.remove("acme", "TOKEN")
    with pytest.raises(SecretMissing):
        await vault.get("acme", "TOKEN")
    with pytest.raises(SecretMissing):
        await vault.remove("acme", "TOKEN")
    assert (await vault.names("acme"), await vault.names("rival")) == ([], ["TOKEN"])


async def test_the_file_says_nothing_and_is_its_owners_alone(vault: FileVault) -> None:
    await vault.set("acme", Secret("GITHUB_TOKEN", VALUE))
    await vault.set("acme", Secret("GITHUB_TOKEN", VALUE + "2"))
    for path in vault.path.parent.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        for hidden in (VALUE, "GITHUB_TOKEN", "acme"):
            assert hidden.encode() not in path.read_bytes()
    assert {path.name for path in vault.path.parent.iterdir()} == {"vault", ".vault.lock"}


async def test_another_key_does_not_open_it(vault: FileVault, cheap: None) -> None:
    await vault.set("acme", Secret("TOKEN", VALUE))
    with pytest.raises(VaultError, match="does not open with this key file"):
        await FileVault(vault.path, Key("key file", b"x" * 32)).get("acme", "TOKEN")
    with pytest.raises(VaultError, match="opened by a key file, and a passphrase was given") as refused:
        await FileVault(vault.path, Key("passphrase", b"secret words")).set("acme", Secret("TOKEN", VALUE))
    assert "secret words" not in str(refused.value.as_dict())
    assert (await vault.get("acme", "TOKEN")).reveal() == VALUE


async def test_a_passphrase_opens_it_and_another_does_not(tmp_path: Path, cheap: None) -> None:
    await FileVault(tmp_path / "vault", Key("passphrase", b"open sesame")).set("acme", Secret("TOKEN", VALUE))
    right = FileVault(tmp_path / "vault", Key("passphrase", b"open sesame"))
    assert (await right.get("acme", "TOKEN")).reveal() == VALUE
    with pytest.raises(VaultError, match="does not open with this passphrase"):
        await FileVault(tmp_path / "vault", Key("passphrase", b"open barley")).names("acme")
    assert "open sesame" not in repr(Key("passphrase", b"open sesame"))


async def test_after_a_rotation_only_the_new_key_opens_it(vault: FileVault) -> None:
    new = Key("key file", b"n" * 32)
    with pytest.raises(NotFound):
        await vault.rotate(new)
    await vault.set("acme", Secret("TOKEN", VALUE))
    await vault.rotate(new)
    assert (await vault.get("acme", "TOKEN")).reveal() == VALUE
    assert (await FileVault(vault.path, new).get("acme", "TOKEN")).reveal() == VALUE
    with pytest.raises(VaultError):
        await FileVault(vault.path, KEY).get("acme", "TOKEN")


async def test_a_file_that_was_changed_anywhere_is_not_believed(vault: FileVault) -> None:
    await vault.set("acme", Secret("TOKEN", VALUE))
    whole = vault.path.read_bytes()
    for place in range(0, len(whole) - 1, 7):
        vault.path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(VaultError):
            await FileVault(vault.path, KEY).get("acme", "TOKEN")
    for part in (b"", whole[: len(whole) // 2], b"{}", b"\xff\xff", b"[" * 5000):
        vault.path.write_bytes(part)
        with pytest.raises(VaultError):
            await FileVault(vault.path, KEY).get("acme", "TOKEN")


async def test_a_header_that_asks_for_endless_work_is_refused(tmp_path: Path, cheap: None) -> None:
    vault = FileVault(tmp_path / "vault", Key("passphrase", b"open sesame"))
    await vault.set("acme", Secret("TOKEN", VALUE))
    vault.path.write_bytes(vault.path.read_bytes().replace(b'"log_n":4', b'"log_n":40'))
    with pytest.raises(VaultError, match="damaged"):
        await vault.get("acme", "TOKEN")


async def test_a_file_that_others_can_read_is_refused(vault: FileVault, tmp_path: Path) -> None:
    await vault.set("acme", Secret("TOKEN", VALUE))
    vault.path.chmod(0o640)
    with pytest.raises(VaultError) as refused:
        await vault.get("acme", "TOKEN")
    assert refused.value.hint == f"Make it yours alone: chmod 600 {vault.path}"
    make_key_file(tmp_path / "key")
    (tmp_path / "key").chmod(0o604)
    with pytest.raises(VaultError):
        read_key_file(tmp_path / "key")


def test_a_key_file_is_made_once_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "key"
    make_key_file(path)
    key = read_key_file(path)
    assert (key.kind, len(key.material), stat.S_IMODE(path.stat().st_mode)) == ("key file", 32, 0o600)
    with pytest.raises(Conflict):
        make_key_file(path)
    assert read_key_file(path) == key
    assert str(key.material) not in repr(key)
    with pytest.raises(VaultError, match="cannot be read"):
        read_key_file(tmp_path / "none")
    path.write_bytes(b"ostler-vault-key-1:AAAA\n")
    with pytest.raises(VaultError, match="no key file"):
        read_key_file(path)


async def test_changes_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    vaults = [FileVault(tmp_path / "vault", KEY) for _ in range(8)]
    await asyncio.gather(*(vault.set("acme", Secret(f"TOKEN_{n}", VALUE)) for n, vault in enumerate(vaults)))
    assert len(await FileVault(tmp_path / "vault", KEY).names("acme")) == 8


WRITER = """
import asyncio, pathlib, sys
from ostler.adapters.vault.file import FileVault, Key
from ostler.domain.secret import Secret
vault = FileVault(pathlib.Path(sys.argv[1]), Key("key file", bytes(32)))
for number in range(20):
    asyncio.run(vault.set(sys.argv[2], Secret(f"TOKEN_{number}", "hunter2-hunter2")))
"""


async def test_changes_by_several_processes_are_all_kept(vault: FileVault) -> None:
    command = [sys.executable, "-c", WRITER, str(vault.path)]
    writers = [await asyncio.create_subprocess_exec(*command, tenant) for tenant in ("acme", "rival")]
    assert [await writer.wait() for writer in writers] == [0, 0]
    assert [len(await vault.names(tenant)) for tenant in ("acme", "rival")] == [20, 20]


async def test_a_write_that_fails_leaves_what_was_there(vault: FileVault, monkeypatch: pytest.MonkeyPatch) -> None:
    await vault.set("acme", Secret("TOKEN", VALUE))

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(VaultError, match="No space left"):
        await vault.set("acme", Secret("TOKEN", "changed " + VALUE))
    assert (await vault.get("acme", "TOKEN")).reveal() == VALUE
    assert {path.name for path in vault.path.parent.iterdir()} == {"vault", ".vault.lock"}


async def test_of_several_vaults_the_first_that_has_it_gives_it(vault: FileVault) -> None:
    await vault.set("default", Secret("TOKEN", "in the file"))
    await vault.set("default", Secret("OTHER", "only in the file"))
    both = Vaults([EnvironmentVault({"OSTLER_SECRET_TOKEN": "in the environment"}), vault])
    assert (await both.get("default", "TOKEN")).reveal() == "in the environment"
    assert (await both.get("default", "OTHER")).reveal() == "only in the file"
    assert await both.names("default") == ["OTHER", "TOKEN"]
    with pytest.raises(SecretMissing, match="No vault has the secret THIRD of the tenant default") as missing:
        await both.get("default", "THIRD")
    assert missing.value.hint.startswith("Put it there with `ostler vault set THIRD`")
