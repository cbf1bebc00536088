"""Credentials for tools: lent for the time of one call, and taken out of whatever comes of it."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import msgspec

from ostler.adapters.tools.scrub import Scrubber, Seen
from ostler.domain.secret import Secret, is_lendable
from ostler.domain.tool import ToolOutcome, ToolRequest, ToolSpec
from ostler.kernel.errors import ConfigurationError, OstlerError, SecretMissing, ToolError
from ostler.ports import ToolHost, Vault

_lent: ContextVar[Mapping[str, Secret]] = ContextVar("ostler_credentials")


def credential(name: str) -> str:
    """The value of a credential, inside of a tool that has declared it: `@tool(credentials=["GITHUB_TOKEN"])`.

    Raises `SecretMissing` anywhere else.
    """
    secret = _lent.get({}).get(name)
    if secret is None:
        raise SecretMissing(
            f"The credential {name} is not lent here.",
            hint=f'It is, within a call of a tool that declares it: @tool(credentials=["{name}"]).',
        )
    return secret.reveal()


def environment() -> dict[str, str]:
    """What is lent to the tool that is being called, as variables for a command that it runs."""
    return {name: secret.reveal() for name, secret in _lent.get({}).items()}


@contextmanager
def lent(secrets: Mapping[str, Secret]) -> Iterator[None]:
    """Within it, and in threads and tasks begun in it, `credential` gives these."""
    token = _lent.set(secrets)
    try:
        yield
    finally:
        _lent.reset(token)


class LendingTools:
    """Performs the calls of another host, with the credentials that its tools declare.

    Whatever was lent is taken out of outcomes and errors before anybody sees them. A credential that no vault has is a
    failure of the call, and the tool is not called. `seen` hears of every secret that is lent, before it is.
    """

    def __init__(self, host: ToolHost, vault: Vault, seen: Seen | None = None) -> None:
        self._host = host
        self._vault = vault
        self._seen = seen
        self._specs: dict[str, ToolSpec] = {}

    def specs(self) -> Sequence[ToolSpec]:
        return self._host.specs()

    async def perform(self, request: ToolRequest) -> ToolOutcome:
        secrets = await self._secrets(request)
        if not secrets:
            return await self._host.perform(request)
        with lent(secrets), scrubbed_errors(scrubber := Scrubber(secrets.values())):
            return scrub(await self._host.perform(request), scrubber)

    async def reconcile(self, request: ToolRequest) -> ToolOutcome | None:
        secrets = await self._secrets(request)
        if not secrets:
            return await self._host.reconcile(request)
        with lent(secrets), scrubbed_errors(scrubber := Scrubber(secrets.values())):
            outcome = await self._host.reconcile(request)
            return None if outcome is None else scrub(outcome, scrubber)

    async def close(self) -> None:
        await self._host.close()

    async def _secrets(self, request: ToolRequest) -> dict[str, Secret]:
        """What the tool declares. Raises `SecretMissing`, `VaultError`, `ConfigurationError`."""
        if request.tool not in self._specs:
            self._specs = {spec.name: spec for spec in self._host.specs()}  # a host may have got more
        spec = self._specs.get(request.tool)
        if spec is None or not spec.credentials:
            return {}
        if refused := [name for name in spec.credentials if not is_lendable(name)]:
            raise ConfigurationError(f"{spec.name} asks for what no tool is lent: {', '.join(refused)}.")
        secrets = {name: await self._vault.get(request.tenant, name) for name in spec.credentials}
        if self._seen is not None:
            self._seen.add(secrets.values())
        return secrets


def scrub(outcome: ToolOutcome, scrubber: Scrubber) -> ToolOutcome:
    """The outcome without secrets. JSON stays JSON, or becomes text where a secret was more than a text in it."""
    output = scrubber.text(outcome.output)
    if output == outcome.output:
        return outcome
    is_json = outcome.is_json
    if is_json:
        try:
            msgspec.json.decode(output)
        except msgspec.DecodeError:
            is_json = False
    return msgspec.structs.replace(outcome, output=output, is_json=is_json)


@contextmanager
def scrubbed_errors(scrubber: Scrubber) -> Iterator[None]:
    """What is raised within says nothing secret. It has no cause any more: that could say it, too."""
    try:
        yield
    except asyncio.CancelledError as error:
        error.args = tuple(scrubber.value(error.args))
        raise error from None
    except OstlerError as error:
        error.message, error.hint = scrubber.text(error.message), scrubber.text(error.hint)
        error.facts, error.args = scrubber.value(error.facts), (error.message,)
        raise error from None
    except Exception as error:
        raise ToolError(scrubber.text(f"{type(error).__name__}: {error}")) from None
