"""What every command needs: settings, an open runtime, and an event loop to run on."""

import asyncio
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import click

from ostler.app.service import Runtime, Session
from ostler.app.settings import Settings, resolve

T = TypeVar("T")


def settings() -> Settings:
    """The settings of this invocation: its options, the environment, the project."""
    return resolve(os.environ, Path.cwd(), store=click.get_current_context().find_root().obj)


def using_runtime(work: Callable[[Runtime], Coroutine[Any, Any, T]]) -> T:
    """What `work` returns, given a runtime without a worker."""

    async def work_in_it() -> T:
        async with Runtime.open(resolved, worker=False) as runtime:
            return await work(runtime)

    resolved = settings()
    return asyncio.run(work_in_it())


def using_session(name: str, work: Callable[[Session], Coroutine[Any, Any, T]]) -> T:
    """As `using_runtime`, for work on one session."""

    async def find(runtime: Runtime) -> T:
        return await work(await runtime.session(name))

    return using_runtime(find)
