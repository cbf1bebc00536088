"""Whose memories a command is about."""

from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple, TypeVar

import click

from ostler.app.memory_scope import scope_of
from ostler.app.service import Runtime
from ostler.domain.identity import Principal
from ostler.domain.memory.scope import Scope

F = TypeVar("F", bound=Callable[..., Any])


class Whose(NamedTuple):
    """What was named with the options."""

    agent: str
    user: str
    session: str
    is_shared: bool

    @property
    def is_named(self) -> bool:
        return any(self)

    async def scope(self, runtime: Runtime, by: Principal) -> Scope:
        """Raises `UsageError` if that names nobody, or too many; `NotFound`."""
        return await scope_of(
            runtime, by, agent=self.agent, user=self.user, session=self.session, is_shared=self.is_shared
        )


def scope_options(command: F) -> F:
    """Adds `--agent`, `--user`, `--session` and `--shared` to a command, which gets them together as `whose`."""

    @wraps(command)
    def with_whose(*arguments: Any, agent: str, user: str, session: str, shared: bool, **more: Any) -> Any:
        return command(*arguments, whose=Whose(agent, user, session, shared), **more)

    for option in (
        click.option("--shared", is_flag=True, help="What all agents of the tenant share."),
        click.option("--session", default="", metavar="SESSION", help="What is kept for this session alone."),
        click.option("--user", default="", metavar="ID", help="What the agent keeps for this user."),
        click.option("--agent", default="", metavar="NAME", help="What this agent keeps, for every user."),
    ):
        with_whose = option(with_whose)
    return with_whose  # type: ignore[return-value]
