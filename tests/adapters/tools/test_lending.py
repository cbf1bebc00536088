"""Credentials are lent for one call, to the tool that declares them, and taken out of whatever comes of it."""

import asyncio
import base64
import io
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ostler
from ostler.adapters.tools.functions import FunctionTools, Tool, tool
from ostler.adapters.tools.lending import LendingTools, credential, environment, lent
from ostler.adapters.tools.scrub import ScrubbedStream, Scrubber, Seen
from ostler.adapters.vault.environment import EnvironmentVault
from ostler.domain.secret import Secret
from ostler.domain.tool import ToolOutcome, ToolRequest, ToolSpec
from ostler.kernel.errors import ConfigurationError, DefinitionInvalid, SecretMissing, ToolError, ToolTimeout
from ostler.ports import ToolHost
from ostler.testing.contracts.tool_host import Endless, ToolHostContract

VALUE = 'c4n4ry "of" the\\mine/é+=&%'
VAULT = EnvironmentVault(
    {"OSTLER_SECRET_TOKEN": VALUE, "OSTLER_SECRET_ACME__TOKEN": "of-acme-alone", "OSTLER_SECRET_OTHER": "other-value"}
)


def request(name: str, tenant: str = "default") -> ToolRequest:
    return ToolRequest(name, {}, "ses_1/1.1", tenant, 5.0)


async def used(one: Tool[..., Any], tenant: str = "default") -> ToolOutcome:
    return await LendingTools(FunctionTools([one]), VAULT).perform(request(one.spec.name, tenant))


async def test_a_tool_that_declares_a_credential_gets_it_wherever_it_runs() -> None:
    found: list[str] = []

    @tool(credentials=["TOKEN"])
    async def coroutine() -> None:
        """Look."""
        found.append(ostler.credential("TOKEN"))
        found.append(await asyncio.to_thread(credential, "TOKEN"))
        found.append(await asyncio.create_task(inner()))

    async def inner() -> str:
        return credential("TOKEN")

    @tool(credentials=["TOKEN"])
    def function() -> None:
        """Look."""
        found.append(credential("TOKEN"))
        found.append(environment()["TOKEN"])

    for one in (coroutine, function):
        assert (await used(one)).ok
    assert found == [VALUE] * 5


async def test_nobody_else_gets_it() -> None:
    @tool
    def undeclared() -> str:
        """Look."""
        return credential("TOKEN")

    @tool(credentials=["OTHER"])
    def of_another() -> str:
        """Look."""
        return credential("TOKEN")

    for one in (undeclared, of_another):
        outcome = await used(one)
        assert not outcome.ok
        assert "The credential TOKEN is not lent here." in outcome.output
    with pytest.raises(SecretMissing):
        credential("TOKEN")
    assert environment() == {}


async def test_two_calls_at_the_same_time_have_their_own_tenants_credentials() -> None:
    both = asyncio.Barrier(2)
    found: dict[str, str] = {}

    @tool(credentials=["TOKEN"])
    async def look(request: ToolRequest) -> None:
        """Look."""
        await both.wait()
        found[request.tenant] = credential("TOKEN")

    lending = LendingTools(FunctionTools([look]), VAULT)
    await asyncio.gather(lending.perform(request("look")), lending.perform(request("look", "acme")))
    assert found == {"default": VALUE, "acme": "of-acme-alone"}


async def test_a_tool_whose_credential_is_missing_is_not_called() -> None:
    called = []

    @tool(credentials=["TOKEN"])
    def look() -> None:
        """Look."""
        called.append(1)

    with pytest.raises(SecretMissing):
        await used(look, "rival")
    assert called == []


@pytest.mark.parametrize("name", ["OSTLER_TOKEN_KEYS", "token", "A__B", ""])
async def test_what_no_tool_is_lent_cannot_be_declared(name: str) -> None:
    with pytest.raises(DefinitionInvalid, match="credentials"):
        tool(credentials=[name])(print)

    class Smuggling(FunctionTools):
        def specs(self) -> list[ToolSpec]:
            return [ToolSpec("smuggle", "", {}, credentials=(name,))]

    with pytest.raises(ConfigurationError):
        await LendingTools(Smuggling([]), VAULT).perform(request("smuggle"))


WRITTEN: dict[str, Callable[[str], str]] = {
    "plain": str,
    "json": json.dumps,
    "json in utf-8": lambda value: json.dumps(value, ensure_ascii=False),
    "json in json": lambda value: json.dumps(json.dumps({"a": value})),
    "json by msgspec": lambda value: msgspec.json.encode([value]).decode(),
    "python": lambda value: repr([value]),
    "base64": lambda value: base64.b64encode(value.encode()).decode(),
    "base64 for urls": lambda value: base64.urlsafe_b64encode(value.encode()).decode().rstrip("="),
    "basic auth": lambda value: base64.b64encode(f"user:{value}".encode()).decode(),
    "basic auth with a short user": lambda value: base64.b64encode(f"me:{value}".encode()).decode(),
    "base64 of more": lambda value: base64.b64encode(f"a{value}b".encode()).decode(),
    "hex": lambda value: value.encode().hex(),
    "HEX": lambda value: value.encode().hex().upper(),
    "url": lambda value: f"https://x/?q={quote(value, safe='')}",
    "form": lambda value: f"q={quote_plus(value)}",
    "path": quote,
}


@pytest.mark.parametrize("how", WRITTEN)
@pytest.mark.parametrize("value", [VALUE, "ghp_16C7e42F292c6912E7710c838347Ae178B4a", "päss wörd"])
async def test_however_a_tool_writes_a_credential_it_is_taken_out(how: str, value: str) -> None:
    @tool(credentials=["TOKEN"])
    def echo() -> str:
        """Echo."""
        return f"before {WRITTEN[how](credential('TOKEN'))} after"

    lending = LendingTools(FunctionTools([echo]), EnvironmentVault({"OSTLER_SECRET_TOKEN": value}))
    outcome = await lending.perform(request("echo"))
    assert outcome.output.startswith("before ")
    assert outcome.output.endswith(" after")
    assert "[secret:TOKEN]" in outcome.output
    assert WRITTEN[how](value) not in outcome.output
    assert value not in outcome.output


VALUES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=8, max_size=40)


@given(VALUES, st.binary(max_size=9), st.binary(max_size=9))
def test_in_base64_at_most_the_edges_are_left(value: str, before: bytes, after: bytes) -> None:
    scrubber = Scrubber([Secret("TOKEN", value)])
    encoded = base64.b64encode(before + value.encode() + after).decode()
    scrubbed = scrubber.text(encoded)
    assert "[secret:TOKEN]" in scrubbed
    left = sum(map(len, scrubbed.split("[secret:TOKEN]")))
    assert left <= len(base64.b64encode(before + after)) + 4


@given(VALUES, st.text(max_size=20), st.text(max_size=20))
def test_json_with_a_credential_stays_json_and_does_not_have_it(value: str, before: str, after: str) -> None:
    scrubber = Scrubber([Secret("TOKEN", value)])
    for encode in (lambda text: json.dumps({"a": text}), lambda text: msgspec.json.encode({"a": text}).decode()):
        scrubbed = scrubber.text(encode(f"{before}|{value}|{after}"))
        assert value not in json.loads(scrubbed)["a"].replace("[secret:TOKEN]", "")


async def test_json_that_a_credential_was_more_than_a_text_of_becomes_text() -> None:
    @tool(credentials=["TOKEN"])
    def echo() -> dict[str, int]:
        """Echo."""
        return {"pin": int(credential("TOKEN"))}

    lending = LendingTools(FunctionTools([echo]), EnvironmentVault({"OSTLER_SECRET_TOKEN": "1234567890"}))
    outcome = await lending.perform(request("echo"))
    assert (outcome.is_json, outcome.output) == (False, '{"pin":[secret:TOKEN]}')


def escaped(value: str, depth: int) -> str:
    """The value within JSON within Python's `repr`, and so on."""
    text = value
    for level in range(depth):
        text = json.dumps(text, ensure_ascii=level % 2 == 0) if level % 3 else repr([text])
    return text


@given(VALUES, st.integers(0, 5))
def test_however_often_a_credential_is_escaped_it_is_found(value: str, depth: int) -> None:
    scrubber = Scrubber([Secret("TOKEN", value)])
    assert "[secret:TOKEN]" in scrubber.text(f"|{escaped(value, depth)}|")


async def test_of_two_credentials_the_longer_is_taken_out_whole() -> None:
    scrubber = Scrubber([Secret("SHORT", "abcdefgh"), Secret("LONG", "abcdefgh-ijkl")])
    assert scrubber.text("abcdefgh-ijkl abcdefgh") == "[secret:LONG] [secret:SHORT]"


class Leaky:
    """A host that raises what it is given, with the credential in every part of it."""

    def __init__(self, error: Callable[[str], BaseException]) -> None:
        self.error = error

    def specs(self) -> list[ToolSpec]:
        return [ToolSpec("leak", "", {}, credentials=("TOKEN",))]

    async def perform(self, request: ToolRequest) -> ToolOutcome:
        try:
            raise ValueError(credential("TOKEN"))
        except ValueError as cause:
            raise self.error(credential("TOKEN")) from cause

    async def reconcile(self, request: ToolRequest) -> ToolOutcome | None:
        return await self.perform(request)

    async def close(self) -> None: ...


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda value: ToolTimeout(f"no {value}", hint=f"try {value}", tried=[value, {"k": value}]), ToolTimeout),
        (lambda value: ValueError(f"no {value}"), ToolError),
        (lambda value: KeyError(value), ToolError),
        (lambda value: UnicodeEncodeError("ascii", value, 0, 1, value), ToolError),
        (lambda value: asyncio.CancelledError(f"no {value}"), asyncio.CancelledError),
    ],
)
async def test_an_error_keeps_its_kind_and_loses_the_credential(
    make: Callable[[str], BaseException], kind: type[BaseException]
) -> None:
    lending = LendingTools(Leaky(make), VAULT)
    for call in (lending.perform, lending.reconcile):
        with pytest.raises(kind) as raised:
            await call(request("leak"))
        error = raised.value
        shown = [str(error), repr(error), repr(error.args), repr(getattr(error, "facts", "")), repr(error.__cause__)]
        shown += [getattr(error, "hint", ""), getattr(error, "message", "")]
        assert not any(form in text for text in shown for form in (VALUE, repr(VALUE)[1:-1], "c4n4ry"))


async def test_what_comes_of_reconciling_is_scrubbed_too() -> None:
    @tool(effect="reconcilable", credentials=["TOKEN"], reconcile=lambda request: f"it happened: {credential('TOKEN')}")
    def pay() -> None:
        """Pay."""

    outcome = await LendingTools(FunctionTools([pay]), VAULT).reconcile(request("pay"))
    assert outcome == ToolOutcome(True, "it happened: [secret:TOKEN]")


def test_what_is_printed_and_logged_is_scrubbed_from_the_moment_of_the_loan() -> None:
    seen, out = Seen(), io.StringIO()
    stream: Any = ScrubbedStream(out, seen)
    logger = logging.getLogger("tests.leaky")
    logger.addHandler(logging.StreamHandler(stream))
    logger.propagate = False
    seen.add([Secret("TOKEN", VALUE)])
    with lent({"TOKEN": Secret("TOKEN", VALUE)}):
        print("token:", credential("TOKEN"), file=stream)
        stream.writelines([credential("TOKEN"), "\n"])
        logger.error("failed with %r", credential("TOKEN"))
        try:
            raise ValueError(credential("TOKEN"))
        except ValueError:
            logger.exception("failed")
    assert "c4n4ry" not in out.getvalue()
    assert out.getvalue().count("[secret:TOKEN]") == 4
    assert stream.getvalue() == out.getvalue()


def test_a_text_without_credentials_is_left_as_it_is() -> None:
    assert Scrubber([]).text(VALUE) == VALUE
    assert Scrubber([Secret("TOKEN", VALUE)]).value({"a": [1, None, ("x",)]}) == {"a": [1, None, ["x"]]}


class TestLendingToolsKeepTheContract(ToolHostContract):
    def make(self) -> ToolHost:
        self.begun, self.ended = asyncio.Event(), asyncio.Event()

        @tool(credentials=["TOKEN"])
        async def hang() -> None:
            """Hang."""
            self.begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.ended.set()

        @tool(credentials=["TOKEN"])
        def look() -> str:
            """Look."""
            return credential("TOKEN")

        return LendingTools(FunctionTools([hang, look]), VAULT)

    def harmless(self, folder: Path) -> ToolRequest:
        return request("look")

    def endless(self, folder: Path) -> Endless:
        return Endless(request("hang"), self.begun.is_set, lambda: not self.ended.is_set())
