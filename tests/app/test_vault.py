"""Which vault is opened, by what the environment and the project say."""

import logging
import sys
from pathlib import Path

import pytest

from ostler.app.settings import resolve
from ostler.app.vault import (
    FILE,
    KEY_FILE,
    PASSPHRASE,
    file_vault,
    make_key_file,
    scrubbed_output,
    seen_secrets,
    vault,
    vault_path,
)
from ostler.domain.secret import Secret
from ostler.kernel.errors import ConfigurationError, SecretMissing, VaultError

VALUE = "c4n4ry-of-the-vault"


def environ(folder: Path, **more: str) -> dict[str, str]:
    return {"HOME": str(folder), **more}


def test_the_file_is_beside_the_store_of_the_project_or_the_users(tmp_path: Path) -> None:
    plain = environ(tmp_path)
    assert vault_path(plain, resolve(plain, tmp_path)) == tmp_path / ".local/share/ostler/vault"
    (tmp_path / "ostler.toml").touch()
    assert vault_path(plain, resolve(plain, tmp_path)) == tmp_path / ".ostler/vault"
    elsewhere = resolve(plain, tmp_path, store="postgresql://db/ostler")
    assert vault_path(plain, elsewhere) == tmp_path / ".ostler/vault"
    assert vault_path({FILE: "/srv/vault"}, elsewhere) == Path("/srv/vault")


async def test_the_environment_goes_before_the_file(tmp_path: Path) -> None:
    make_key_file(tmp_path / "key")
    known = environ(tmp_path, **{KEY_FILE: str(tmp_path / "key"), "OSTLER_SECRET_TOKEN": "from the environment"})
    settings = resolve(known, tmp_path)
    for name in ("TOKEN", "OTHER"):
        await file_vault(known, settings).set("default", Secret(name, VALUE))
    assert (await vault(known, settings).get("default", "TOKEN")).reveal() == "from the environment"
    assert (await vault(known, settings).get("default", "OTHER")).reveal() == VALUE
    without_key = environ(tmp_path)
    with pytest.raises(SecretMissing):
        await vault(without_key, settings).get("default", "OTHER")


@pytest.mark.parametrize(
    ("more", "error", "said"),
    [
        ({}, ConfigurationError, "There is no key to the vault."),
        ({KEY_FILE: "nowhere", PASSPHRASE: "open sesame"}, ConfigurationError, "are both set"),
        ({KEY_FILE: "nowhere"}, VaultError, "The key file nowhere cannot be read"),
    ],
)
def test_a_key_that_is_not_there_is_said_so(
    tmp_path: Path, more: dict[str, str], error: type[Exception], said: str
) -> None:
    known = environ(tmp_path, **more)
    with pytest.raises(error, match=said) as refused:
        file_vault(known, resolve(known, tmp_path))
    assert "open sesame" not in str(refused.value)


def test_what_goes_out_within_is_scrubbed(capsys: pytest.CaptureFixture[str]) -> None:
    seen = seen_secrets()
    seen.add([Secret("TOKEN", VALUE)])
    with scrubbed_output(seen):
        print("said", VALUE)  # noqa: T201
        sys.stderr.write(f"cried {VALUE}\n")
        logging.StreamHandler().emit(logging.makeLogRecord({"msg": f"logged {VALUE}"}))
    captured = capsys.readouterr()
    assert captured.out == "said [secret:TOKEN]\n"
    assert captured.err == "cried [secret:TOKEN]\nlogged [secret:TOKEN]\n"
