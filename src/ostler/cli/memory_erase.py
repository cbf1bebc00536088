"""Erasing what agents remember: for good, with what was made of it and the sessions whose logs hold it."""

import time

import click
import msgspec

from ostler.app.erasure import Erasure, Plan, erase_memories, plan_erasure
from ostler.app.memory_scope import ERASE
from ostler.app.service import Runtime
from ostler.cli.base import acting_option, acting_principal, using_runtime
from ostler.cli.output import Format, Rows, emit, output_options, say
from ostler.cli.scopes import Whose, scope_options
from ostler.cli.words import count, short
from ostler.domain.identity import Principal
from ostler.domain.memory.erasure import Reason, Which
from ostler.kernel.errors import NotAllowed

SHOWN_MAX = 20
"""What is named of each kind before somebody is asked."""

REASONS: dict[Reason, str] = {
    "named": "it was named",
    "version": "another version of it",
    "merged": "merged with it",
    "derived": "made of it",
    "retold": "tells the same in its words",
    "possible": "may have been made of it",
}


class Doom(msgspec.Struct, frozen=True):
    """What was erased, or would be. What is `possible` was made by such sessions in words of their own, and stays."""

    memories: list[str]
    entities: list[str]
    sessions: list[str]
    waiting: list[str]
    possible: list[str]
    is_done: bool


@click.command()
@click.argument("ids", metavar="[ID]...", nargs=-1)
@scope_options
@click.option("--subject", default="", metavar="NAME", help="All that speaks of somebody or something, by this name.")
@click.option("--thorough", is_flag=True, help="Also what such sessions may have made of it in words of their own.")
@click.option("--because", required=True, help="The reason, for the record; write no personal data into it.")
@click.option("--dry-run", is_flag=True, help="Only say what would be erased.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@acting_option
@output_options
def erase(
    ids: tuple[str, ...],
    whose: Whose,
    subject: str,
    thorough: bool,
    because: str,
    dry_run: bool,
    yes: bool,
    acting: str | None,
    output: Format,
) -> None:
    """Erase memories for good: those with these ids, all of a scope, of a user (--user alone), or of a subject.

    With what was made of them, and with the content of every session that wrote them or was given them, because its
    log holds them, too. The log stays provable. Backups and what relays handed on are beyond its reach. It takes the
    scope memory.erase.
    """

    async def look(runtime: Runtime) -> Plan:
        by = await _eraser(runtime, acting)
        which = await _which(runtime, by, ids=ids, whose=whose, subject=subject, is_thorough=thorough)
        return await plan_erasure(runtime.parts, by.tenant, which=which)

    async def work(runtime: Runtime) -> Erasure:
        by = await _eraser(runtime, acting)
        which = await _which(runtime, by, ids=ids, whose=whose, subject=subject, is_thorough=thorough)
        return await erase_memories(
            runtime.parts, by.tenant, which=which, by=by.id, because=because, progress=_Progress()
        )

    plan = using_runtime(look)
    if not dry_run and not plan.is_empty and not plan.waiting:
        _confirm(plan, yes)
    if not dry_run:  # where nothing is left to be erased, the index may still have some of it
        using_runtime(work)
    doom = Doom(
        [one.id for one in plan.memories],
        [name for _, name in plan.entities],
        list(plan.sessions),
        list(plan.waiting),
        list(plan.possible),
        not dry_run,
    )
    if _has_rows(plan) or output != "table":
        emit(doom, output, lambda: _table(plan))
    _say(plan, is_done=not dry_run)


async def _eraser(runtime: Runtime, acting: str | None) -> Principal:
    """Who erases. It reaches the logs of sessions, so that it takes a scope even for one's own memories."""
    by = await acting_principal(runtime, acting)
    if not by.may(ERASE):
        raise NotAllowed(f"{by.id} lacks the scope {ERASE!r}.", hint="`ostler memory forget` takes it out of force.")
    return by


async def _which(
    runtime: Runtime, by: Principal, *, ids: tuple[str, ...], whose: Whose, subject: str, is_thorough: bool
) -> Which:
    if whose.user and not whose.agent and not whose.session:
        return Which(user=whose.user, ids=ids, subject=subject, is_thorough=is_thorough)
    scope = await whose.scope(runtime, by) if whose.is_named else None
    return Which(scope=scope, ids=ids, subject=subject, is_thorough=is_thorough)


def _confirm(plan: Plan, yes: bool) -> None:
    if yes:
        return
    for one in plan.memories[:SHOWN_MAX]:
        say(f"{one.id}  {short(one.text, 80)} ({REASONS[one.reason]})")
    for name in plan.sessions[:SHOWN_MAX]:
        say(f"{name}  its log holds some of it")
    if plan.scopes:
        say(f"everything that is kept for: {', '.join(str(scope) for scope in plan.scopes[:SHOWN_MAX])}")
    click.confirm(f"Erase {_size(plan)} for good?", abort=True, err=True)


def _has_rows(plan: Plan) -> bool:
    return bool(plan.memories or plan.entities or plan.sessions or plan.waiting)


def _table(plan: Plan) -> Rows:
    rows = [(one.id, str(one.scope), REASONS[one.reason]) for one in plan.memories]
    rows += [(name, str(scope), "an entity that is described") for scope, name in plan.entities]
    rows += [(name, "", "a session whose log holds some of it") for name in (*plan.sessions, *plan.waiting)]
    return Rows("what", "of", "why~", rows=rows)


def _say(plan: Plan, *, is_done: bool) -> None:
    done = "erased" if is_done else "would be erased"
    say(f"{_size(plan)} {done}.")
    if not _has_rows(plan):
        say("Nothing like this is remembered. `ostler memory stats` lists whose memories there are.")
    if plan.waiting:
        say(f"Not before these have ended: {', '.join(plan.waiting)}")
    if plan.possible:
        say(f"{len(plan.possible)} more may be made of it in other words, and stay: --thorough erases them, too.")


def _size(plan: Plan) -> str:
    return f"{count(len(plan.memories), 'memory')} and {count(len(plan.sessions), 'session')}"


class _Progress:
    """Says now and then how far it is."""

    def __init__(self) -> None:
        self._said = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        if time.monotonic() - self._said > 1:
            self._said = time.monotonic()
            say(f"{done:,} of {total:,} …")
