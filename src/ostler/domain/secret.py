"""A value that must not be seen, and what is done so that it does not get out by accident."""

import re
from typing import NoReturn

from ostler.kernel.errors import ConfigurationError

CHARS_MIN = 8
"""A shorter value could not be told, where it turns up, from what is there by chance."""
BYTES_MAX = 64 * 1024

NAME = re.compile(r"(?=.{1,64}\Z)[A-Z](?:_?[A-Z0-9])*")
"""How secrets are named: as variables of an environment are, without two `_` in a row, which part a tenant from it."""
OURS = "OSTLER_"
"""What the names of Ostler's own secrets begin with, such as the keys that sign tokens. No tool is lent them."""


class Secret:
    """A named value that is shown, compared, copied and encoded as nothing. `reveal` is the only way to it."""

    __slots__ = ("_value", "name")

    def __init__(self, name: str, value: str) -> None:
        """Raises `ConfigurationError` for a value that could not be kept out of what is written."""
        size = len(value.encode(errors="replace"))
        if len(value) < CHARS_MIN or size > BYTES_MAX or not _is_text(value):
            raise ConfigurationError(
                f"The value of {name} is no text of at least {CHARS_MIN} characters and at most {BYTES_MAX} bytes.",
                hint="It could not be recognised, and so not be taken out, where a tool says it.",
            )
        self.name = name
        self._value = value

    def reveal(self) -> str:
        """The value itself: for whoever hands it to a tool or signs with it, and for nobody else."""
        return self._value

    def __repr__(self) -> str:
        return f"<secret {self.name}>"

    def __reduce_ex__(self, _: object) -> NoReturn:
        raise TypeError("a secret is not to be copied or pickled")


def is_lendable(name: str) -> bool:
    """Whether a tool may be lent a secret of this name."""
    return NAME.fullmatch(name) is not None and not name.startswith(OURS)


def check_name(name: str) -> None:
    """Raises `ConfigurationError` if no secret can have this name."""
    if not NAME.fullmatch(name):
        raise ConfigurationError(
            f"{name!r} is no name of a secret.",
            hint="Write it like GITHUB_TOKEN: up to 64 capital letters, digits and single '_'.",
        )


def _is_text(value: str) -> bool:
    """Whether it has no half of a surrogate pair, as bytes from outside may become, and no NUL."""
    return not any("\ud800" <= char <= "\udfff" or char == "\0" for char in value)
