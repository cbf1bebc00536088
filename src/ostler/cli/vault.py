"""The credentials of tools: kept encrypted, never given on a command line, never shown."""

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from ostler.app.vault import (
    KEY_FILE,
    PASSPHRASE,
    closed_vault,
    file_vault,
    make_key_file,
    passphrase_key,
    read_key_file,
    vault,
    vault_path,
)
from ostler.cli.base import settings
from ostler.cli.output import Format, Rows, emit, output_options, say
from ostler.domain.identity import DEFAULT_TENANT
from ostler.domain.secret import BYTES_MAX, OURS, Secret, check_name
from ostler.kernel.errors import UsageError
from ostler.ports import Vault

F = TypeVar("F", bound=Callable[..., Any])


class Named(msgspec.Struct, frozen=True):
    """A secret that there is."""

    tenant: str
    name: str


def tenant_option(command: F) -> F:
    """Adds `--tenant` to a command."""
    return click.option("--tenant", default=DEFAULT_TENANT, show_default=True, metavar="NAME", help="Whose.")(command)


def chosen_vault() -> Vault:
    """All vaults of this invocation. Raises `ConfigurationError`, `VaultError`."""
    return vault(os.environ, settings())


def chosen_file_vault() -> Any:
    """The encrypted file of this invocation. Raises `ConfigurationError`, `VaultError`."""
    return file_vault(os.environ, settings())


@click.group("vault")
def vault_() -> None:
    """Keep the credentials of tools where agents, prompts and logs never see them.

    A tool declares what it needs: @tool(credentials=["GITHUB_TOKEN"]). It is given the value when it is called, from
    the variable OSTLER_SECRET_GITHUB_TOKEN, else from an encrypted file (OSTLER_VAULT). That is opened by a key file
    (OSTLER_VAULT_KEY_FILE) or a passphrase (OSTLER_VAULT_PASSPHRASE).
    """


@vault_.command("set")
@click.argument("name")
@tenant_option
def set_(name: str, tenant: str) -> None:
    """Put a secret into the file, in place of the one of this name.

    Its value is asked for, or read from standard input if that is no terminal. A line break at its end is not part
    of it.
    """
    check_name(name)
    if name.startswith(OURS):
        raise UsageError(f"Names that begin with {OURS} are Ostler's own.", hint="Choose another name.")
    file = chosen_file_vault()
    was_there = asyncio.run(file.set(tenant, Secret(name, _value(f"Value of {name}"))))
    say(f"{name} of the tenant {tenant} was {'replaced' if was_there else 'added'}.")


@vault_.command("list")
@tenant_option
@output_options
def list_(tenant: str, output: Format) -> None:
    """List the names of what tools can be lent here. Values are never shown."""
    names = asyncio.run(_names(tenant))
    if (file := closed_vault(os.environ, settings())) is not None:
        say(f"{file} was not looked into: set {KEY_FILE} or {PASSPHRASE} to open it.")
    if not names and output == "table":
        say(f"There are no secrets of the tenant {tenant}. `ostler vault set NAME` adds one.")
        return
    found = [Named(tenant, name) for name in names if not name.startswith(OURS)]
    emit(found, output, lambda: Rows("name", rows=[(one.name,) for one in found]))


async def _names(tenant: str) -> list[str]:
    return list(await chosen_vault().names(tenant))


@vault_.command()
@click.argument("name")
@tenant_option
def remove(name: str, tenant: str) -> None:
    """Take a secret out of the file."""
    asyncio.run(chosen_file_vault().remove(tenant, name))
    say(f"{name} of the tenant {tenant} was removed.")


@vault_.command()
@click.argument("file", type=click.Path(path_type=Path))
def key(file: Path) -> None:
    """Write a new key to a new FILE, which opens the vault where OSTLER_VAULT_KEY_FILE names it.

    Whoever has it and the vault has the secrets: keep them apart, and a copy of the key in a safe place.
    """
    make_key_file(file)
    say(f"The key is in {file}. Set OSTLER_VAULT_KEY_FILE={file.absolute()}")


@vault_.command()
@click.option("--key-file", type=click.Path(path_type=Path), help="The new key; else a new passphrase is asked for.")
def rotate(key_file: Path | None) -> None:
    """Encrypt the file anew, under another key. The old key, and copies of the file, open what was until now."""
    file = chosen_file_vault()
    new = read_key_file(key_file) if key_file else passphrase_key(_value("New passphrase"))
    asyncio.run(file.rotate(new))
    say(f"{vault_path(os.environ, settings())} is encrypted anew. Set the variable for the new {new.kind}.")


def _value(what: str) -> str:
    """What a person types unseen and twice, or what comes through a pipe."""
    if sys.stdin.isatty():
        typed: str = click.prompt(what, hide_input=True, confirmation_prompt=True, err=True)
        return typed
    text = sys.stdin.read(BYTES_MAX + 2)
    return text.removesuffix("\n").removesuffix("\r")
