"""Where the private key of an operator is kept: in a file of its own, readable by its owner and nobody else."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from ostler.app.audit.note import SigningKey, check_name, read_signing_key
from ostler.kernel.errors import ConfigurationError, NotFound, UsageError
from ostler.ports import Entropy

VARIABLE = "OSTLER_AUDIT_KEY"
"""The environment variable that names the file."""


def key_file(option: Path | None, environ: Mapping[str, str]) -> Path:
    """Which file it is: that of the option, else of the environment, else in the user's configuration folder."""
    if option is not None:
        return option
    if named := environ.get(VARIABLE):
        return Path(named)
    config = Path(environ.get("XDG_CONFIG_HOME", ""))
    if not config.is_absolute():  # to be ignored, says the XDG Base Directory Specification
        config = Path(environ.get("HOME", "")) / ".config"
    if not config.is_absolute():
        raise ConfigurationError("There is no home folder to keep a key in.", hint=f"Set {VARIABLE}, or give --key.")
    return config / "ostler" / "audit.key"


def make_key(file: Path, name: str, entropy: Entropy) -> SigningKey:
    """Make a new key and keep it. Nothing is overwritten. Raises `UsageError`, `ConfigurationError`."""
    check_name(name)
    key = SigningKey(name, entropy.chance(32))
    text = key.text()
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise ConfigurationError(f"The key file {file} cannot be made: {error.strerror}.") from error
    with open(descriptor, "w", encoding="utf-8") as opened:
        opened.write(text)
        opened.flush()
        os.fsync(opened.fileno())
    return key


def read_key(file: Path) -> SigningKey:
    """The key in this file. Raises `NotFound`, `ConfigurationError` if others may read it, `UsageError`."""
    try:
        mode = file.stat().st_mode
        text = file.read_text("utf-8")
    except FileNotFoundError as error:
        raise NotFound(f"There is no key file {file}.", hint="`ostler audit key` makes one.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"The key file {file} cannot be read.") from error
    if stat.S_IMODE(mode) & 0o077:
        raise ConfigurationError(
            f"The key file {file} can be read by others, so that they could sign as you.", hint=f"chmod 600 {file}"
        )
    try:
        return read_signing_key(text)
    except UsageError as error:
        raise UsageError(f"{file}: {error.message}", hint=error.hint) from error
