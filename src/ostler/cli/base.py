"""What every command needs: settings, an open runtime, and an event loop to run on."""

import asyncio
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from ostler.app.identity import resolve_principal
from ostler.app.service import Runtime
from ostler.app.session import Session
from ostler.app.settings import ProjectFile, Settings, resolve
from ostler.domain.identity import DEFAULT_TENANT, LOCAL_USER, Principal
from ostler.kernel.errors import NotFound, UsageError

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

SQLITE = "sqlite:///"
EMPTY = "memory:"


def settings(project: ProjectFile | None = None) -> Settings:
    """The settings of this invocation: its options, the environment, the project (or what is to stand for it)."""
    return resolve(os.environ, Path.cwd(), store=click.get_current_context().find_root().obj, project=project)


def settings_of_existing() -> Settings:
    """The settings for a command that makes no store. One that is not there is an empty one, if nobody named it.

    Raises `NotFound` if somebody did.
    """
    known = settings()
    if not known.store.startswith(SQLITE) or (path := Path(known.store.removeprefix(SQLITE))).exists():
        return known
    if known.is_store_named:
        raise NotFound(f"There is no store at {path}.", hint="Check --store and OSTLER_STORE. `ostler run` makes one.")
    return msgspec.structs.replace(known, store=EMPTY)


def using_runtime(work: Callable[[Runtime], Coroutine[Any, Any, T]], *, makes_store: bool = False) -> T:
    """What `work` returns, given a runtime without a worker."""

    async def work_in_it() -> T:
        async with Runtime.open(resolved, worker=False) as runtime:
            return await work(runtime)

    resolved = settings() if makes_store else settings_of_existing()
    return asyncio.run(work_in_it())


def acting_option(command: F) -> F:
    """Adds `--as` to a command, which gets what was named as `acting`: None is whoever owns the store."""
    return click.option(
        "--as",
        "acting",
        metavar="[TENANT/]ID",
        envvar="OSTLER_PRINCIPAL",
        help="Act as this principal of the directory; else OSTLER_PRINCIPAL, else the owner of the store.",
    )(command)


def image_option(command: F) -> F:
    """Adds `--image` to a command, which gets the files that were named as `images`."""
    return click.option(
        "--image",
        "images",
        metavar="FILE",
        multiple=True,
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="An image for the model: PNG, JPEG, GIF or WebP. May be repeated.",
    )(command)


async def acting_principal(runtime: Runtime, acting: str | None) -> Principal:
    """Who acts, by what was given with `--as`. Raises `NotFound`, `UsageError`."""
    if acting is None:
        return LOCAL_USER
    tenant, slash, name = acting.rpartition("/")
    if not name or (slash and not tenant):
        raise UsageError(f"{acting!r} names nobody.", hint="Write ID, or TENANT/ID.")
    return await resolve_principal(runtime.parts, tenant or DEFAULT_TENANT, name)


async def find_session(runtime: Runtime, name: str, *, tenant: str = DEFAULT_TENANT) -> Session:
    """The session of a tenant that a person named. Raises `UsageError`, `NotFound`, `Conflict`."""
    if not name:
        raise UsageError("The name of the session is empty.", hint="`ostler ps --all` lists sessions.")
    if is_worker(name):
        raise UsageError(f"{name} is a worker, not a session.", hint=f"Its log: ostler logs {name}")
    return await runtime.session(name, tenant=tenant)


def is_worker(name: str) -> bool:
    """Whether this is the name of a worker; those have logs, too."""
    return name.startswith("wrk_")


def using_session(name: str, work: Callable[[Session], Coroutine[Any, Any, T]], acting: str | None = None) -> T:
    """As `using_runtime`, for work on one session of the tenant of whoever acts."""

    async def find(runtime: Runtime) -> T:
        tenant = (await acting_principal(runtime, acting)).tenant
        return await work(await find_session(runtime, name, tenant=tenant))

    return using_runtime(find)
