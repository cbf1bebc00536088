"""A credential is in nothing that is written: canaries are put into every vault, and everything is searched for them.

Tools say their credentials in every way they can; a model repeats what it is told. Then the bytes of the store with its
WAL and bodies, an export, what the command line shows, and what was printed and logged are searched.
"""

import asyncio
import base64
import io
import json
import logging
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import pytest
from click.testing import CliRunner

from ostler import Agent, Runtime, credential, tool
from ostler.adapters.tools.functions import Failure, Tool
from ostler.adapters.tools.lending import LendingTools
from ostler.adapters.tools.scrub import ScrubbedStream, Scrubber, Seen, encodings
from ostler.adapters.vault.environment import EnvironmentVault
from ostler.adapters.vault.file import FileVault, Key
from ostler.adapters.vault.several import Vaults
from ostler.app.bootstrap import Parts
from ostler.app.vault import lending
from ostler.cli import cli
from ostler.domain.model import ModelRequest
from ostler.domain.scheduling import WorkerSettings
from ostler.domain.secret import Secret
from ostler.domain.tool import ToolRequest
from ostler.kernel.errors import SecretMissing, ToolError
from ostler.ports import Vault
from ostler.testing import Scripted, calls

CANARIES = {
    "IN_THE_ENVIRONMENT": 'c4n4ry-1 "env"\\é+/=%&',
    "IN_THE_FILE": "c4n4ry-2-file-0123456789abcdef",
    "NOT_ASKED_FOR": "c4n4ry-3-unused-0123456789",
}
OF_ANOTHER_TENANT = "c4n4ry-4-of-a-rival-tenant"
LENT = ("IN_THE_ENVIRONMENT", "IN_THE_FILE")
BODY_CHARS = 100_000


def both() -> str:
    return " ".join(credential(name) for name in LENT)


def said() -> dict[str, Any]:
    """The credentials in many ways of writing."""
    plain = [credential(name) for name in LENT]
    return {
        "plain": plain,
        "keys": dict.fromkeys(plain, 1),
        "json": json.dumps(plain),
        "repr": repr(plain),
        "base64": [base64.b64encode(f"user:{value}".encode()).decode() for value in plain],
        "hex": [value.encode().hex() for value in plain],
        "urls": [f"https://host/?{quote(value)}" for value in plain],
    }


def leaky_tools() -> list[Tool[..., Any]]:
    """Tools that tell what they must not."""
    leaky = cast(Callable[..., Callable[[Callable[..., Any]], Tool[..., Any]]], tool)

    @leaky(credentials=LENT)
    def returns() -> dict[str, Any]:
        """Return it."""
        return said()

    @leaky(credentials=LENT)
    async def returns_much() -> str:
        """Return more than an event holds."""
        return f"{both()} {'hay ' * (BODY_CHARS // 4)} {both()}"

    @leaky(credentials=LENT)
    def raises() -> None:
        """Raise it, with a cause and a note."""
        try:
            raise KeyError(both())
        except KeyError as cause:
            error = ValueError(both())
            error.add_note(both())
            raise error from cause

    @leaky(credentials=LENT)
    async def fails() -> None:
        """Fail, and say why."""
        raise Failure("permanent", f"refused: {both()}")

    @leaky(credentials=LENT)
    def fails_with_a_hint() -> None:
        """Fail, with a hint and facts."""
        raise ToolError(both(), hint=both(), tried=said())

    @leaky(credentials=LENT)
    def returns_an_error() -> dict[str, Any]:
        """Return an error."""
        return {"ok": False, "error": both()}

    @leaky(credentials=LENT)
    def prints_and_logs() -> str:
        """Print and log it, with a traceback."""
        print("printed", both(), said())  # noqa: T201
        logging.getLogger("leaky").error("logged %s", both())
        try:
            raise ValueError(both())
        except ValueError:
            traceback.print_exc()
            logging.getLogger("leaky").exception("raised")
        return "done"

    return [returns, returns_much, raises, fails, fails_with_a_hint, returns_an_error, prints_and_logs]


TOOLS = leaky_tools()


def repeating(request: ModelRequest) -> str:
    """What a model says that repeats all that it has been told."""
    return repr(list(request.messages))


def leaky_agent() -> Agent:
    asked = calls(*((one.spec.name, {}) for one in TOOLS))
    script = Scripted(asked, repeating, name="parrot")
    return Agent("parrot", "Repeat what you are told.", tools=TOOLS, model=script)


async def vaults(folder: Path) -> Vault:
    """One canary in each place where one can be."""
    environ = {"OSTLER_SECRET_IN_THE_ENVIRONMENT": CANARIES["IN_THE_ENVIRONMENT"]}
    environ["OSTLER_SECRET_RIVAL__IN_THE_ENVIRONMENT"] = OF_ANOTHER_TENANT
    file = FileVault(folder / "vault", Key("key file", bytes(32)))
    for name in ("IN_THE_FILE", "NOT_ASKED_FOR"):
        await file.set("default", Secret(name, CANARIES[name]))
    await file.set("rival", Secret("IN_THE_FILE", OF_ANOTHER_TENANT))
    return Vaults([EnvironmentVault(environ), file])


def wire(parts: Parts, vault: Vault, seen: Seen) -> None:
    """Let the tools of a runtime be lent what is in this vault, in place of what it would lend them by itself."""
    tools = parts.tools
    inner = tools._host if isinstance(tools, LendingTools) else tools
    parts.__dict__["tools"] = lending(inner, vault, seen)


@asynccontextmanager
async def caught(seen: Seen) -> AsyncIterator[io.StringIO]:
    """What is printed and logged meanwhile, as it leaves the process."""
    out = io.StringIO()
    stream: Any = ScrubbedStream(out, seen)
    handler = logging.StreamHandler(stream)
    logging.getLogger("leaky").addHandler(handler)
    try:
        with redirect_stdout(stream), redirect_stderr(stream):
            yield out
    finally:
        logging.getLogger("leaky").removeHandler(handler)


def lived(folder: Path) -> dict[str, bytes]:
    """Everything that is written while the agent lives, and afterwards, by the place where it is."""
    written, session = asyncio.run(life(folder))
    written |= {f"{path.name} at rest": path.read_bytes() for path in folder.iterdir() if path.is_file()}
    return written | shown(folder / "ostler.db", session, folder)


async def life(folder: Path) -> tuple[dict[str, bytes], str]:
    """What is written while the agent lives, and the name of its session."""
    seen = Seen()
    async with caught(seen) as out, Runtime.open(folder / "ostler.db", worker=False) as runtime:
        wire(runtime.parts, await vaults(folder / "vaults"), seen)
        session = await runtime.start(leaky_agent(), "Tell me everything.")
        await runtime.work(WorkerSettings(keeps_views=True))
        result = await session.result()
        assert result.is_success, result
        written = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        written["the result"] = repr(result).encode()
        written["printed and logged"] = out.getvalue().encode()
    return written, session.id


def shown(store: Path, session: str, folder: Path) -> dict[str, bytes]:
    """What the command line shows of it, and exports."""
    found: dict[str, bytes] = {}
    archive = folder / "export.jsonl"
    for words in (
        ("ps", "--all"),
        ("logs", session),
        ("logs", session, "--json"),
        ("inspect", session),
        ("inspect", session, "--json"),
        ("why", session),
        ("agents", "--json"),
        ("replay", session),
        ("export", session, "--to", str(archive)),
    ):
        done = CliRunner().invoke(cli, ["--store", f"sqlite:///{store}", *words])
        assert done.exit_code == 0, (words, done.output)
        found[words[0]] = found.get(words[0], b"") + done.output.encode()
    return found | {"the export": archive.read_bytes()}


def nests(written: dict[str, bytes]) -> list[tuple[str, str]]:
    """Where canaries are, in any form."""
    values = [*CANARIES.values(), OF_ANOTHER_TENANT]
    wanted = {form.encode() for value in values for form in encodings(value)} | {b"c4n4ry"}
    return [(place, form.decode()) for place, body in written.items() for form in wanted if form in body]


def test_no_credential_is_in_anything_that_is_written(tmp_path: Path) -> None:
    written = lived(tmp_path)
    assert nests(written) == []
    assert b"[secret:IN_THE_ENVIRONMENT]" in written["printed and logged"]
    everything = b"".join(written.values())
    for name in LENT:
        assert everything.count(f"[secret:{name}]".encode()) > 20
    assert len(everything) > BODY_CHARS


def test_where_nothing_is_taken_out_canaries_are_found_in_every_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Scrubber, "text", lambda self, text: text)
    places = {place for place, _ in nests(lived(tmp_path))}
    assert places >= {"ostler.db-wal", "ostler.db at rest", "printed and logged", "the result", "logs", "the export"}


async def test_a_credential_that_no_vault_has_ends_the_call_and_is_named() -> None:
    missing = LendingTools(_Hosts(), Vaults([EnvironmentVault({})]))
    with pytest.raises(SecretMissing, match="No vault has the secret IN_THE_ENVIRONMENT of the tenant default"):
        await missing.perform(ToolRequest("returns", {}, "ses_1/1.1", "default", 5.0))


class _Hosts:
    """The leaky tools, as a host."""

    def specs(self) -> list[Any]:
        return [one.spec for one in TOOLS]

    async def perform(self, request: ToolRequest) -> Any:
        raise AssertionError("a tool was called without its credentials")

    async def reconcile(self, request: ToolRequest) -> Any:
        raise AssertionError("a tool was asked without its credentials")

    async def close(self) -> None: ...
