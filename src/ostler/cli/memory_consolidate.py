"""Consolidating what is remembered, when somebody wants it."""

import click
import msgspec

from ostler.app.memory import MemoryDesk
from ostler.app.service import Runtime
from ostler.cli.base import acting_option
from ostler.cli.memory import at_desk
from ostler.cli.output import Format, Rows, emit, output_options, say
from ostler.cli.scopes import Whose, scope_options
from ostler.cli.words import count, short
from ostler.domain.identity import Principal
from ostler.runtime.memory.consolidation import Became


class Consolidated(msgspec.Struct, frozen=True):
    """What became of memories, or would; there may be more to do."""

    became: list[Became]
    more: bool
    is_done: bool


@click.command()
@scope_options
@click.option("--dry-run", is_flag=True, help="Only say what would become of what.")
@acting_option
@output_options
def consolidate(whose: Whose, dry_run: bool, acting: str | None, output: Format) -> None:
    """Merge what is remembered twice, make facts of what many sessions tell, and let go of what faded unused.

    Workers do it by themselves when a scope has grown; see [memory.consolidation] in ostler.toml. `ostler memory
    restore` brings back what was merged or let go, and `ostler memory forget` takes a fact back.
    """

    async def work(runtime: Runtime, by: Principal, desk: MemoryDesk) -> tuple[list[Became], bool]:
        return await desk.consolidate(await whose.scope(runtime, by), is_trial=dry_run)

    became, more = at_desk(acting, work)
    rows = [(one.how, f"{len(one.of)}", one.into, short(one.text)) for one in became]
    emit(Consolidated(became, more, not dry_run), output, lambda: Rows("how", "of>", "into", "text…", rows=rows))
    steps = count(len(became), "step")
    if dry_run:
        say(f"{steps} would be taken{', and more after them' if more else ''}.")
    else:
        say(f"{steps} taken{'; there are more to take' if more else ''}.")
