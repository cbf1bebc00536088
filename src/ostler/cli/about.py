"""Commands about the command line itself: version, completion."""

import platform
import sqlite3
import sys

import click
import msgspec
from click.shell_completion import get_completion_class

import ostler
from ostler.cli.output import Format, Rows, emit, output_options


@click.command()
@output_options
def version(output: Format) -> None:
    """Show the versions of what is running."""
    versions = {
        "ostler": ostler.__version__,
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "msgspec": msgspec.__version__,
        "platform": f"{sys.platform} {platform.machine()}",
    }
    emit(versions, output, lambda: Rows("what", "version~", rows=list(versions.items())))


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    \b
    bash:  eval "$(ostler completion bash)"      in ~/.bashrc
    zsh:   eval "$(ostler completion zsh)"       in ~/.zshrc
    fish:  ostler completion fish > ~/.config/fish/completions/ostler.fish
    """
    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(ctx.find_root().command, {}, "ostler", "_OSTLER_COMPLETE").source())
