"""Rights that are lent: grants of a tenant, and signed tokens for where there is no common store."""

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import click
import msgspec

from ostler.app.identity import (
    TOKEN_LIFE_S_MAX,
    identity_of,
    read_keys,
    rotate_token_keys,
    shown_token,
    token_keys,
    verify_foreign,
)
from ostler.app.service import Runtime
from ostler.cli.base import acting_option, acting_principal, using_runtime
from ostler.cli.output import Format, Rows, blocks, emit, output_options, put, say
from ostler.cli.principal import changing, directory
from ostler.cli.vault import chosen_file_vault, chosen_vault, tenant_option
from ostler.cli.words import duration, span_us
from ostler.domain.directory import Directory
from ostler.domain.grant import Grant, Wanted
from ostler.domain.identity import DEFAULT_TENANT
from ostler.kernel.errors import NotFound, UsageError
from ostler.kernel.event import timestamp

SECOND_US = 1_000_000
BYTES_MAX = 64 * 1024


class Minted(msgspec.Struct, frozen=True):
    """A token and the grant that it is for."""

    grant: str
    token: str
    expires: str


class Listed(msgspec.Struct, frozen=True):
    """A grant; `fault` says why it is void, if it is."""

    id: str
    subject: str
    actor: str
    scopes: tuple[str, ...]
    tools: tuple[str, ...]
    expires: str | None
    depth: int
    parent: str | None
    fault: str


@click.group()
def token() -> None:
    """Lend rights for a time: to an agent or a service, as a grant in the log and as a signed token.

    A grant never gives more than whoever lends it has, and can be revoked. The token says the same where there is no
    common store: it holds for at most an hour, for one audience, and proves by an Ed25519 signature who issued it.
    """


@token.command()
@click.option("--to", "actor", required=True, metavar="ID", help="Who may act with it, such as agent:helper@1.")
@click.option("--for", "subject", metavar="ID", help="On whose behalf; else whoever acts.")
@click.option("--from", "parent", metavar="GRANT", help="Hand on a part of this grant.")
@click.option("--scope", "scopes", multiple=True, metavar="SCOPE", help="Only these scopes; repeatable.")
@click.option("--tool", "tools", multiple=True, metavar="TOOL", help="Only these tools, such as crm.*; repeatable.")
@click.option("--lasts", metavar="DURATION", default="15m", show_default=True, help="How long it holds: 12h, 30m, 90s.")
@click.option("--depth", type=click.IntRange(0), default=0, show_default=True, help="How often it may be handed on.")
@click.option("--audience", metavar="NAME", help="Also make a token, for this receiver.")
@acting_option
@output_options
def mint(
    actor: str,
    subject: str | None,
    parent: str | None,
    scopes: tuple[str, ...],
    tools: tuple[str, ...],
    lasts: str,
    depth: int,
    audience: str | None,
    acting: str | None,
    output: Format,
) -> None:
    """Lend rights, and print the token if an audience is named. Whoever has the token can use it until it expires."""
    lasts_us = span_us(lasts)

    async def work(runtime: Runtime) -> Minted:
        by = await acting_principal(runtime, acting)
        identity = identity_of(runtime.parts, by.tenant)
        ring = await token_keys(chosen_vault(), by.tenant) if audience is not None else None
        if ring is not None:
            ring.signing()  # before anything is written
        end_us = runtime.parts.clock.now_us() + lasts_us
        wanted = Wanted(actor, scopes or None, tools or None, end_us, depth)
        grant = await identity.lend(wanted, by, subject=subject, parent=parent)
        text = ""
        if ring is not None and audience is not None:
            text = await identity.mint(grant.id, ring, audience=audience, life_s=lasts_us // SECOND_US)
        return Minted(grant.id, text, timestamp(end_us))

    minted = using_runtime(work, makes_store=True)
    if output != "table":
        put(minted, output)
        return
    click.echo(minted.token or minted.grant)
    say(f"The grant {minted.grant} holds until {minted.expires}. To end it: ostler token revoke {minted.grant}")
    if minted.token and lasts_us > TOKEN_LIFE_S_MAX * SECOND_US:
        say(f"A token holds no longer than {duration(TOKEN_LIFE_S_MAX * SECOND_US)}.")


@token.command("list")
@acting_option
@output_options
def list_(acting: str | None, output: Format) -> None:
    """List the grants of a tenant, newest first, and whether they are in force."""
    known = directory(acting)
    found = [_listed(known, grant) for grant in reversed(list(known.grants.values()))]
    if not found and output == "table":
        say("Nothing was lent. `ostler token mint` lends something.")
        return
    rows = [
        (one.id, one.subject, one.actor, " ".join(one.scopes), " ".join(one.tools), one.fault or f"until {one.expires}")
        for one in found
    ]
    emit(found, output, lambda: Rows("grant", "for", "to", "scopes~", "tools~", "state~", rows=rows))


def _listed(known: Directory, grant: Grant) -> Listed:
    return Listed(
        grant.id,
        grant.subject,
        grant.actor,
        grant.scopes,
        grant.tools,
        None if grant.expires_us is None else timestamp(grant.expires_us),
        grant.depth,
        grant.parent,
        known.fault(grant.id, _now_us()),
    )


@token.command()
@click.argument("grant")
@click.option("--because", default="", help="The reason, for the record.")
@acting_option
def revoke(grant: str, because: str, acting: str | None) -> None:
    """End a grant now, with all that were made from it and all their tokens."""
    changing(acting, lambda identity, by: identity.revoke(grant, by, because))
    say(f"{grant} is void.")


@token.command()
@output_options
def show(output: Format) -> None:
    """Show what a token says, which proves nothing. It is read from standard input."""
    said = shown_token(_read_token())
    fields = [(name, _text(value)) for name, value in (said["header"] | said["claims"]).items()]
    emit(said, output, lambda: blocks([fields]))
    say("This is what it says; `ostler token verify` says whether it is true.")


@token.command()
@click.option("--audience", required=True, metavar="NAME", help="Who we are, as the token must have it.")
@click.option(
    "--keys",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The public keys of another store that issued it. Whether it was revoked there cannot be seen here.",
)
@click.option("--tenant", default=None, metavar="NAME", help="With --keys, the tenant that it must be for.")
@acting_option
@output_options
def verify(audience: str, keys: Path | None, tenant: str | None, acting: str | None, output: Format) -> None:
    """Verify a token, read from standard input: signature, time, audience, tenant, and that it was not revoked."""
    if tenant is not None and keys is None:
        raise click.UsageError("--tenant goes with --keys; the tenant of our own tokens is that of --as.")
    text = _read_token()
    if keys is not None:
        ring = read_keys(keys.read_text("utf-8", errors="replace"))
        verified = verify_foreign(text, ring, audience=audience, tenant=tenant or DEFAULT_TENANT, now_us=_now_us())
    else:

        async def work(runtime: Runtime) -> Any:
            by = await acting_principal(runtime, acting)
            ring = await token_keys(chosen_vault(), by.tenant)
            return await identity_of(runtime.parts, by.tenant).verify(text, ring, audience=audience)

        verified = using_runtime(work)
    said = msgspec.structs.asdict(verified) | {"grant": msgspec.structs.asdict(verified.grant)}
    fields = [(name, _text(value)) for name, value in (said["grant"] | {"issuer": verified.issuer}).items()]
    emit(said, output, lambda: blocks([fields]))


@token.command()
@tenant_option
def keys(tenant: str) -> None:
    """Print the public keys that others need to verify our tokens, as a JSON Web Key Set."""

    async def work() -> Any:
        return (await token_keys(chosen_vault(), tenant)).public()

    found = asyncio.run(work())
    if not found["keys"]:
        raise NotFound("There are no keys yet.", hint="`ostler token rotate` makes one.")
    put(found, "json")


@token.command()
@tenant_option
def rotate(tenant: str) -> None:
    """Make a new key in the vault, which signs from now on. The last ones before it still verify."""

    async def work() -> Any:
        return (await rotate_token_keys(chosen_file_vault(), tenant)).public()

    found = asyncio.run(work())
    say(f"Tokens of {tenant} are signed by the key {found['keys'][0]['kid']} from now on.")


def _read_token() -> str:
    text = sys.stdin.read(BYTES_MAX).strip()
    if not text:
        raise UsageError("There is no token on standard input.", hint="ostler token show < FILE")
    return text


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _now_us() -> int:
    return time.time_ns() // 1000
