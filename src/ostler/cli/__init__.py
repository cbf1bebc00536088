"""The command line: thin commands over `ostler.app`, each imported when it is called and not before."""

import contextlib
import io
import os
import pkgutil
import sys
from typing import Any, NamedTuple

try:
    import click
except ModuleNotFoundError as error:
    raise SystemExit("The command line needs a library that is not installed: pip install 'ostler[cli]'") from error

import ostler
from ostler.cli.exits import MEANINGS
from ostler.cli.trouble import reported
from ostler.domain.suggest import did_you_mean


class Entry(NamedTuple):
    """Where a command is, and what the list of commands says of it."""

    place: str
    short_help: str


COMMANDS: dict[str, dict[str, Entry]] = {
    "Run agents": {
        "demo": Entry("ostler.cli.demo:demo", "Watch an agent repair a small project while things go wrong."),
        "run": Entry("ostler.cli.run:run", "Start a session of an agent and follow it to its end."),
        "resume": Entry("ostler.cli.run:resume", "Go on with a session that is paused or has no worker."),
        "worker": Entry("ostler.cli.worker:worker", "Run the sessions that are due until told to stop."),
        "relay": Entry("ostler.cli.relay:relay", "Hand the log on to brokers and webhooks until told to stop."),
    },
    "Look": {
        "top": Entry("ostler.cli.top:top", "Watch a store at work: workers, queues, what is stuck."),
        "ps": Entry("ostler.cli.look:ps", "List sessions."),
        "logs": Entry("ostler.cli.logs:logs", "Show the events of a session."),
        "inspect": Entry("ostler.cli.inspect:inspect", "Show everything about a session."),
        "why": Entry("ostler.cli.inspect:why", "Explain a decision, or the state a session is in."),
        "relays": Entry("ostler.cli.relay:relays", "List the relays, and events that they could not hand over."),
        "approvals": Entry("ostler.cli.look:approvals", "List the calls that wait for a person."),
        "agents": Entry("ostler.cli.agents:agents", "Show what each agent has done so far."),
        "usage": Entry("ostler.cli.views:usage", "Show what was used, by day, agent or model."),
        "budgets": Entry("ostler.cli.budget:budgets", "Show what is used of the budgets, and what is left."),
        "models": Entry("ostler.cli.models:models", "Look at models, and try another one on decisions of the past."),
        "fitness": Entry("ostler.cli.fitness:fitness", "See how healthy the system is that agents work on."),
        "memory": Entry("ostler.cli.memory:memory", "See what agents remember, and take it back."),
        "graph": Entry("ostler.cli.graph:graph", "See how the things are related that agents know of."),
        "drift": Entry("ostler.cli.drift:drift_", "Compare what an agent did before and after its model changed."),
    },
    "Steer": {
        "approve": Entry("ostler.cli.steer:approve", "Let a call that waits go on."),
        "deny": Entry("ostler.cli.steer:deny", "Refuse a call that waits."),
        "ask": Entry("ostler.cli.steer:ask_back", "Ask the agent something before deciding about its call."),
        "send": Entry("ostler.cli.steer:send", "Say something to a running agent."),
        "pause": Entry("ostler.cli.steer:pause", "Begin no new call until the session is resumed."),
        "cancel": Entry("ostler.cli.steer:cancel", "Stop what is under way, then end the session."),
        "kill": Entry("ostler.cli.steer:kill", "End a session at once."),
        "fork": Entry("ostler.cli.steer:fork", "Start a new session from the past of another."),
        "halt": Entry("ostler.cli.halt:halt", "Stop every session of a tenant, or all, at its next step."),
        "release": Entry("ostler.cli.halt:release", "Let what was halted go on."),
        "breaker": Entry("ostler.cli.breaker:breaker", "See and steer what is left alone because it fails."),
    },
    "Who may what": {
        "policy": Entry("ostler.cli.policy:policy", "Check rules, compare them, try them on the past."),
        "principal": Entry("ostler.cli.principal:principal", "Say who may act, with which scopes and roles."),
        "token": Entry("ostler.cli.token:token", "Lend rights for a time, and sign for them."),
        "vault": Entry("ostler.cli.vault:vault_", "Keep the credentials of tools."),
    },
    "Prove and keep": {
        "replay": Entry("ostler.cli.keep:replay", "Decide a recorded session again, without the world."),
        "verify": Entry("ostler.cli.keep:verify", "Prove that logs are whole and unaltered."),
        "export": Entry("ostler.cli.keep:export", "Write sessions to a self-contained file."),
        "import": Entry("ostler.cli.keep:import_", "Read sessions from such a file."),
        "audit": Entry("ostler.cli.audit:audit", "Sign for the log, take it along with proofs, verify it anywhere."),
        "store": Entry("ostler.cli.store:store", "Remove old sessions, erase content, migrate."),
        "views": Entry("ostler.cli.views:views", "List the read models, or make them anew."),
    },
    "Ostler itself": {
        "doctor": Entry("ostler.cli.doctor:doctor", "Check this installation and say what to do."),
        "version": Entry("ostler.cli.about:version", "Show the versions of what is running."),
        "completion": Entry("ostler.cli.about:completion", "Print the completion script of a shell."),
    },
}
"""Every command, in the order of the help."""

_ENTRIES = {name: entry for section in COMMANDS.values() for name, entry in section.items()}


class Commands(click.Group):
    """A group that knows its commands by name and imports the one that is called."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        for argument in args:
            try:
                argument.encode()
            except UnicodeEncodeError:
                ctx.fail(f"{os.fsencode(argument)!r} is not valid UTF-8, and everything here is.")
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_ENTRIES)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _ENTRIES:
            return None
        command: click.Command = pkgutil.resolve_name(_ENTRIES[name].place)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in _ENTRIES and not name.startswith("-") and not ctx.resilient_parsing:
            near = did_you_mean(name, _ENTRIES)
            ctx.fail(f"There is no command {name!r}." + (f" Did you mean {near!r}?" if near else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for section, entries in COMMANDS.items():
            with formatter.section(section):
                formatter.write_dl([(name.ljust(10), entry.short_help) for name, entry in entries.items()])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(int(code)).ljust(10), meaning) for code, meaning in MEANINGS.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        names = [name for name in _ENTRIES if name.startswith(incomplete)]
        items = [click.shell_completion.CompletionItem(name, help=_ENTRIES[name].short_help) for name in names]
        return [*items, *click.Command.shell_complete(self, ctx, incomplete)]

    def invoke(self, ctx: click.Context) -> Any:
        with reported(ctx):
            return super().invoke(ctx)


def _show_version(ctx: click.Context, _: click.Parameter, is_wanted: bool) -> None:
    if is_wanted:
        click.echo(f"ostler {ostler.__version__}")
        ctx.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--store",
    metavar="URL",
    help="Where sessions are kept: sqlite:///relative.db, sqlite:////absolute.db, postgresql://….",
)
@click.option(
    "-C",
    "--folder",
    type=click.Path(exists=True, file_okay=False),
    help="Do everything as if started in this folder.",
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show it and exit."
)
@click.pass_context
def cli(ctx: click.Context, store: str | None, folder: str | None) -> None:
    """A runtime for AI agents: one gate for everything they do, one durable log of what came of it.

    Sessions are named by their id or any beginning of it that is theirs alone. Data goes to standard output,
    everything said about it to standard error. The store is the one named by --store, else by OSTLER_STORE, else by
    ostler.toml, else in the user's own data folder.
    """
    ctx.obj = store
    if folder is not None:
        ctx.with_resource(contextlib.chdir(folder))


def main() -> None:
    """Run the command line."""
    _prepare_streams()
    cli(prog_name="ostler", windows_expand_args=False)


def _prepare_streams() -> None:
    """Go on where a stream is closed or cannot show a character: nobody wants what would go there, or a `?` will do."""
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            # It is the lowest number that is free, so that no other file gets it and then what is meant for a stream.
            os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115
        elif mode == "w" and isinstance(stream := getattr(sys, name), io.TextIOWrapper):
            stream.reconfigure(errors="replace")
