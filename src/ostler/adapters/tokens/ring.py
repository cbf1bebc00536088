"""The keys that tokens are signed with: one that signs, and those before it, which still verify."""

import json
from collections.abc import Sequence
from typing import Any, Final

from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from ostler.kernel.errors import ConfigurationError

ALGORITHM: Final = "Ed25519"
"""RFC 9864: the curve and the algorithm in one name, so that nothing is left to be negotiated."""
KEYS_MAX = 8


class KeyRing:
    """Keys by their thumbprints (RFC 7638), the newest first. Only the first one signs."""

    def __init__(self, keys: Sequence[OKPKey]) -> None:
        self._keys = tuple(keys)

    def __repr__(self) -> str:
        return f"<{len(self._keys)} keys>"

    @classmethod
    def read(cls, text: str) -> "KeyRing":
        """From a JSON Web Key Set (RFC 7517), of private or of public keys. Raises `ConfigurationError`."""
        try:
            listed = json.loads(text)["keys"]
            keys = [OKPKey.import_key({**key, "alg": ALGORITHM, "use": "sig"}) for key in listed]
        except (ValueError, KeyError, TypeError, RecursionError, JoseError):
            keys = []
        if not keys or len(keys) > KEYS_MAX or any(key.curve_name != ALGORITHM for key in keys):
            raise ConfigurationError(
                f"This is no set of 1 to {KEYS_MAX} keys for {ALGORITHM}.",
                hint="`ostler token keys` prints the one that others need to verify our tokens.",
            ) from None
        return cls(keys)

    def rotated(self) -> "KeyRing":
        """With a new key to sign with. Those before it go on verifying; the oldest go when there are too many."""
        key = OKPKey.generate_key(ALGORITHM, {"alg": ALGORITHM, "use": "sig"})
        return KeyRing([key, *self._keys][:KEYS_MAX])

    def private(self) -> str:
        """Everything, as JSON: a secret."""
        return json.dumps({"keys": [key.as_dict(private=True) for key in self._keys]})

    def public(self) -> dict[str, Any]:
        """What others need to verify our tokens: a JSON Web Key Set."""
        return {"keys": [{**key.as_dict(private=False), "kid": key.thumbprint()} for key in self._keys]}

    def signing(self) -> tuple[str, OKPKey]:
        """The id of the key that signs, and the key. Raises `ConfigurationError` if there is no private one."""
        if not self._keys or not self._keys[0].is_private:
            raise ConfigurationError("There is no key to sign tokens with.", hint="`ostler token rotate` makes one.")
        return self._keys[0].thumbprint(), self._keys[0]

    def verifying(self, key_id: str) -> OKPKey | None:
        """The key of this id."""
        return next((key for key in self._keys if key.thumbprint() == key_id), None)
