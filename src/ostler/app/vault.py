"""Which vaults there are: variables of the environment first, then an encrypted file if there is a key to it."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from ostler.app.plugins import part
from ostler.app.settings import Settings
from ostler.kernel.errors import ConfigurationError
from ostler.ports import ToolHost, Vault

if TYPE_CHECKING:
    from ostler.adapters.tools.scrub import Seen
    from ostler.adapters.vault.file import FileVault, Key

FILE = "OSTLER_VAULT"
KEY_FILE = "OSTLER_VAULT_KEY_FILE"
PASSPHRASE = "OSTLER_VAULT_PASSPHRASE"
PLACE = "ostler.adapters.vault"
EXTRA = "signing"


def vault(environ: Mapping[str, str], settings: Settings) -> Vault:
    """Where the credentials of tools come from. Nothing is read before the first of them is needed.

    Raises `ConfigurationError` (two keys are named), `VaultError` (the key file is not as it must be).
    """
    vaults: list[Vault] = [part(f"{PLACE}.environment:EnvironmentVault")(environ)]
    if environ.get(KEY_FILE) or environ.get(PASSPHRASE):
        vaults.append(file_vault(environ, settings))
    several: Vault = part(f"{PLACE}.several:Vaults")(vaults)
    return several


def file_vault(environ: Mapping[str, str], settings: Settings) -> "FileVault":
    """The encrypted file: `OSTLER_VAULT`, else `.ostler/vault` of the project, else beside the user's own store.

    Raises `ConfigurationError` if no key, or more than one, is named, and `VaultError`.
    """
    key = _key(environ)
    if key is None:
        raise ConfigurationError(
            "There is no key to the vault.",
            hint=f"Make one with `ostler vault key FILE` and set {KEY_FILE}=FILE, or set {PASSPHRASE}.",
        )
    file: FileVault = part(f"{PLACE}.file:FileVault", extra=EXTRA)(vault_path(environ, settings), key)
    return file


def vault_path(environ: Mapping[str, str], settings: Settings) -> Path:
    """Where the encrypted file is, or would be."""
    if named := environ.get(FILE):
        return Path(named)
    if settings.store.startswith("sqlite:///") and not settings.is_store_named:
        return Path(settings.store.removeprefix("sqlite:///")).parent / "vault"
    return settings.folder / ".ostler" / "vault"


def closed_vault(environ: Mapping[str, str], settings: Settings) -> Path | None:
    """The encrypted file if there is one, and nothing says what opens it."""
    path = vault_path(environ, settings)
    return path if not environ.get(KEY_FILE) and not environ.get(PASSPHRASE) and path.exists() else None


def make_key_file(path: Path) -> None:
    """Write a new key to a new file. Raises `Conflict` if it is there, `VaultError`."""
    part(f"{PLACE}.file:make_key_file", extra=EXTRA)(path)


def read_key_file(path: Path) -> "Key":
    """The key in a file. Raises `VaultError`."""
    key: Key = part(f"{PLACE}.file:read_key_file", extra=EXTRA)(path)
    return key


def passphrase_key(passphrase: str) -> "Key":
    """The key that a passphrase is."""
    key: Key = part(f"{PLACE}.file:Key", extra=EXTRA)("passphrase", passphrase.encode())
    return key


def lending(tools: ToolHost, vault: Vault, seen: "Seen | None" = None) -> ToolHost:
    """These tools, with the credentials that they declare, and without them in anything that comes of a call."""
    host: ToolHost = part("ostler.adapters.tools.lending:LendingTools")(tools, vault, seen)
    return host


def seen_secrets() -> "Seen":
    """What a process keeps of the secrets that it has lent, to be given to `lending` and `scrubbed_output`."""
    seen: Seen = part("ostler.adapters.tools.scrub:Seen")()
    return seen


@contextmanager
def scrubbed_output(seen: "Seen") -> Iterator[None]:
    """What is printed or logged within, by tools of this process too, goes out without the secrets that were lent."""
    stream = part("ostler.adapters.tools.scrub:ScrubbedStream")
    with redirect_stdout(stream(sys.stdout, seen)), redirect_stderr(stream(sys.stderr, seen)):
        yield


def _key(environ: Mapping[str, str]) -> "Key | None":
    path, passphrase = environ.get(KEY_FILE), environ.get(PASSPHRASE)
    if path and passphrase:
        raise ConfigurationError(f"{KEY_FILE} and {PASSPHRASE} are both set.", hint="A vault has one key: unset one.")
    if path:
        return read_key_file(Path(path))
    return passphrase_key(passphrase) if passphrase else None
