"""Signed notes and their keys, as C2SP has them (https://c2sp.org/signed-note): texts that other tools can verify."""

import base64
import binascii
import hashlib
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import msgspec

from ostler.app.plugins import part
from ostler.kernel.errors import UsageError

_ED25519 = b"\1"
_PRIVATE = "PRIVATE+KEY+"
_DASH = "\N{EM DASH} "


class VerifierKey(msgspec.Struct, frozen=True):
    """Who may have signed: a name and an Ed25519 public key. As text it is what the field calls a *vkey*."""

    name: str
    public: bytes

    @property
    def id(self) -> bytes:
        """Four bytes by which a signature tells its key."""
        return hashlib.sha256(self.name.encode() + b"\n" + _ED25519 + self.public).digest()[:4]

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{base64.b64encode(_ED25519 + self.public).decode()}"


class SigningKey(msgspec.Struct, frozen=True):
    """The private key of an operator. It signs for each tenant under a name of its own, which is the log's origin."""

    name: str
    seed: bytes

    def __repr__(self) -> str:
        return f"SigningKey({self.name!r}, …)"

    def origin(self, tenant: str) -> str:
        """The name of a tenant's log. Whatever a name must not have in it is percent-encoded."""
        return f"{self.name}/{_quoted(tenant)}"

    def verifier(self, tenant: str) -> VerifierKey:
        """What others need to check the signatures under the log of this tenant."""
        return self._verifier(self.origin(tenant))

    def sign(self, text: str, tenant: str) -> str:
        """The text, which ends with a line break, as a signed note."""
        signature: bytes = _ed25519("sign")(self.seed, text.encode())
        key = self.verifier(tenant)
        return f"{text}\n{_DASH}{key.name} {base64.b64encode(key.id + signature).decode()}\n"

    def text(self) -> str:
        """As it is kept in a file: the form of Go's `note` package. Secret."""
        key = self._verifier(self.name)
        return f"{_PRIVATE}{key.name}+{key.id.hex()}+{base64.b64encode(_ED25519 + self.seed).decode()}\n"

    def _verifier(self, name: str) -> VerifierKey:
        return VerifierKey(name, _ed25519("public_key")(self.seed))


class Note(msgspec.Struct, frozen=True):
    """A text and who claims to have signed it: (name, id of the key, signature), which are not verified yet."""

    text: str
    signatures: tuple[tuple[str, bytes, bytes], ...]

    def signer(self, keys: Sequence[VerifierKey]) -> VerifierKey | None:
        """Which of these keys has signed it. Signatures of others are passed over, as the specification demands."""
        for name, key_id, signature in self.signatures:
            for key in keys:
                if (key.name, key.id) == (name, key_id) and _ed25519("is_signed")(
                    key.public, self.text.encode(), signature
                ):
                    return key
        return None


def read_note(whole: str) -> Note:
    """Take a signed note apart. Raises `UsageError` for anything that is none."""
    text, gap, block = whole.rpartition("\n\n")
    lines = block.removesuffix("\n").split("\n")
    signatures = tuple(_signature(line) for line in lines)
    if not gap or not block.endswith("\n"):
        raise UsageError("This is no signed note: a text, an empty line and a line of signature are expected.")
    return Note(text + "\n", signatures)


def read_verifier_key(text: str) -> VerifierKey:
    """Read a vkey. Raises `UsageError`."""
    name, key_id, public = _key_fields(text.strip(), "verifier key")
    key = VerifierKey(name, public)
    if key.id != key_id:
        raise UsageError(f"The verifier key of {name} was altered: its id does not fit.")
    return key


def read_signing_key(text: str) -> SigningKey:
    """Read a private key file. Raises `UsageError`, which shows nothing of what is in it."""
    text = text.strip()
    if not text.startswith(_PRIVATE):
        raise UsageError("This is no private key of a log.", hint="`ostler audit key` makes one.")
    name, _, seed = _key_fields(text.removeprefix(_PRIVATE), "private key")
    return SigningKey(name, seed)


def is_log_of(origin: str, tenant: str) -> bool:
    """Whether this is what some operator calls the log of this tenant."""
    return origin.rpartition("/")[2] == _quoted(tenant)


def check_name(name: str) -> None:
    """Raises `UsageError` for what cannot be the name of a key."""
    if not name or "+" in name or any(char.isspace() or not char.isprintable() for char in name):
        raise UsageError(f"{name!r} cannot name a log.", hint="Write something like example.com/ostler.")


def _quoted(tenant: str) -> str:
    return quote(tenant, safe="")


def _signature(line: str) -> tuple[str, bytes, bytes]:
    name, _, encoded = line.removeprefix(_DASH).partition(" ")
    try:
        decoded = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        decoded = b""
    if not line.startswith(_DASH) or not name or len(decoded) < 5:
        raise UsageError("This is no signed note: what follows the last empty line are no signatures.")
    return name, decoded[:4], decoded[4:]


def _key_fields(text: str, what: str) -> tuple[str, bytes, bytes]:
    """Name, id and the 32 bytes of a key."""
    name, _, rest = text.partition("+")
    key_id, _, encoded = rest.partition("+")
    try:
        key, four = base64.b64decode(encoded, validate=True), bytes.fromhex(key_id)
    except (binascii.Error, ValueError):
        key, four = b"", b""
    if not name or key[:1] != _ED25519 or len(key) != 33 or len(four) != 4:
        raise UsageError(f"This is no Ed25519 {what}.", hint="It takes a name, an id and the key, joined by +.")
    return name, four, key[1:]


def _ed25519(function: str) -> Any:
    return part(f"ostler.app.audit.ed25519:{function}", extra="signing")
