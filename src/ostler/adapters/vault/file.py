"""Secrets in one encrypted file."""

import asyncio
import base64
import fcntl
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from ostler.domain.secret import Secret, check_name
from ostler.kernel.errors import Conflict, NotFound, SecretMissing, VaultError

KEY_BYTES = 32
NONCE_BYTES = 12
SCRYPT_LOG_N = 17
"""128 MiB and about a third of a second for each guess (OWASP Password Storage Cheat Sheet)."""
SCRYPT_LOG_N_MAX = 20
FILE_BYTES_MAX = 16 * 1024 * 1024
KEY_FILE_MARK = b"ostler-vault-key-1:"

Contents = dict[str, dict[str, str]]
"""Tenant to name to value."""


class Key(msgspec.Struct, frozen=True):
    """What opens a vault: the bytes of a key file, or a passphrase."""

    kind: Literal["key file", "passphrase"]
    material: bytes

    def __repr__(self) -> str:
        return f"<a {self.kind}>"


class _Header(msgspec.Struct, frozen=True):
    """What is in the clear. All of it is authenticated, so that nothing of it can be changed."""

    version: Literal[1]
    kind: Literal["key file", "passphrase"]
    salt: bytes
    log_n: int
    nonce: bytes


class _File(msgspec.Struct, frozen=True):
    header: msgspec.Raw
    sealed: bytes


class FileVault:
    """A file that only its owner can read, and only who has the key can open: ChaCha20-Poly1305 (RFC 8439) over all.

    A write replaces the file whole or not at all. Somebody who can write the file can put an older one in its place,
    which no encryption hinders.
    """

    def __init__(self, path: Path, key: Key) -> None:
        self.path = path
        self._key = key
        self._derived: dict[tuple[bytes, int], bytes] = {}
        self._read: tuple[tuple[int, int, int], Contents] | None = None

    async def get(self, tenant: str, name: str) -> Secret:
        check_name(name)
        contents = await asyncio.to_thread(self._contents)
        value = contents.get(tenant, {}).get(name)
        if value is None:
            raise SecretMissing(f"The vault has no {name} of the tenant {tenant}.")
        return Secret(name, value)

    async def names(self, tenant: str) -> Sequence[str]:
        return sorted((await asyncio.to_thread(self._contents)).get(tenant, {}))

    async def set(self, tenant: str, secret: Secret) -> bool:
        """Keep it, in place of the one of this name. True if there was one."""
        check_name(secret.name)

        def put(contents: Contents) -> bool:
            own = contents.setdefault(tenant, {})
            was_there = secret.name in own
            own[secret.name] = secret.reveal()
            return was_there

        return await asyncio.to_thread(self._change, put)

    async def remove(self, tenant: str, name: str) -> None:
        """Raises `SecretMissing`."""

        def take(contents: Contents) -> bool:
            if contents.get(tenant, {}).pop(name, None) is None:
                raise SecretMissing(f"The vault has no {name} of the tenant {tenant}.")
            return True

        await asyncio.to_thread(self._change, take)

    async def rotate(self, key: Key) -> None:
        """Encrypt everything anew, under another key; the old one opens it no more. Raises `NotFound` without one."""
        if not self.path.exists():
            raise NotFound(f"There is no vault at {self.path} yet.", hint="`ostler vault set NAME` makes one.")
        await asyncio.to_thread(self._change, lambda contents: True, key)

    def _contents(self) -> Contents:
        """What is in the file; read and opened again only when the file is another."""
        try:
            with self.path.open("rb") as file:
                status = os.fstat(file.fileno())
                _must_be_private(self.path, status)
                state = (status.st_ino, status.st_mtime_ns, status.st_size)
                if self._read is None or self._read[0] != state:
                    self._read = state, self._open(file.read(FILE_BYTES_MAX))
                return self._read[1]
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise VaultError(f"The vault {self.path} cannot be read: {error.strerror}.") from error

    def _change(self, change: Callable[[Contents], bool], key: Key | None = None) -> bool:
        with _lock(self.path):
            contents = {tenant: dict(own) for tenant, own in self._contents().items()}
            result = change(contents)
            write_private(self.path, self._seal(contents, key or self._key), replace=True)
            self._key, self._read = key or self._key, None
            return result

    def _open(self, data: bytes) -> Contents:
        try:
            file = msgspec.json.decode(data, type=_File)
            header = msgspec.json.decode(file.header, type=_Header)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise VaultError(f"{self.path} is no vault, or is damaged.", hint="Restore it from a backup.") from error
        if header.kind != self._key.kind:
            raise VaultError(
                f"The vault {self.path} is opened by a {header.kind}, and a {self._key.kind} was given.",
                hint="Set OSTLER_VAULT_KEY_FILE or OSTLER_VAULT_PASSPHRASE accordingly, and not both.",
            )
        if len(header.nonce) != NONCE_BYTES or not 1 <= header.log_n <= SCRYPT_LOG_N_MAX:
            raise VaultError(f"{self.path} is no vault, or is damaged.", hint="Restore it from a backup.")
        try:
            cipher = ChaCha20Poly1305(self._derive(self._key, header.salt, header.log_n))
            plain = cipher.decrypt(header.nonce, file.sealed, bytes(file.header))
        except InvalidTag:
            raise VaultError(
                f"The vault {self.path} does not open with this {self._key.kind}, or somebody has changed the file.",
                hint="Check OSTLER_VAULT_KEY_FILE or OSTLER_VAULT_PASSPHRASE; else restore the file from a backup.",
            ) from None
        return msgspec.json.decode(plain, type=Contents)

    def _seal(self, contents: Contents, key: Key) -> bytes:
        salt, nonce = secrets.token_bytes(16), secrets.token_bytes(NONCE_BYTES)
        header = msgspec.json.encode(_Header(1, key.kind, salt, SCRYPT_LOG_N, nonce))
        cipher = ChaCha20Poly1305(self._derive(key, salt, SCRYPT_LOG_N))
        sealed = cipher.encrypt(nonce, msgspec.json.encode(contents), header)
        return msgspec.json.encode(_File(msgspec.Raw(header), sealed)) + b"\n"

    def _derive(self, key: Key, salt: bytes, log_n: int) -> bytes:
        if key.kind == "key file":
            return key.material
        if (salt, log_n) not in self._derived:
            self._derived = {(salt, log_n): Scrypt(salt, KEY_BYTES, 2**log_n, 8, 1).derive(key.material)}
        return self._derived[salt, log_n]


def make_key_file(path: Path) -> None:
    """Write a new key to a new file that only its owner can read. Raises `Conflict` if the file is there."""
    write_private(path, KEY_FILE_MARK + base64.b64encode(secrets.token_bytes(KEY_BYTES)) + b"\n", replace=False)


def read_key_file(path: Path) -> Key:
    """Raises `VaultError` if it is not there, is no key, or can be read by others."""
    try:
        with path.open("rb") as file:
            _must_be_private(path, os.fstat(file.fileno()))
            data = file.read(1024).strip()
    except OSError as error:
        raise VaultError(
            f"The key file {path} cannot be read: {error.strerror}.", hint=f"`ostler vault key {path}` makes one."
        ) from error
    try:
        material = base64.b64decode(data.removeprefix(KEY_FILE_MARK), validate=True)
    except ValueError:
        material = b""
    if not data.startswith(KEY_FILE_MARK) or len(material) != KEY_BYTES:
        raise VaultError(f"{path} is no key file.", hint="`ostler vault key FILE` makes one.")
    return Key("key file", material)


def write_private(path: Path, data: bytes, *, replace: bool) -> None:
    """Write a file that only its owner can read, whole or not at all. Raises `Conflict`, `VaultError`."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if replace:
                aside.replace(path)
            else:
                path.hardlink_to(aside)
        finally:
            aside.unlink(missing_ok=True)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except FileExistsError as error:
        raise Conflict(f"{path} is there already.", hint="Name another file.") from error
    except OSError as error:
        raise VaultError(f"{path} cannot be written: {error.strerror}.") from error


def _must_be_private(path: Path, status: os.stat_result) -> None:
    if status.st_mode & 0o077:
        raise VaultError(f"{path} can be read or written by others.", hint=f"Make it yours alone: chmod 600 {path}")


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """One change after the other, also of several processes."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise VaultError(f"The vault {path} cannot be written: {error.strerror}.") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
