"""Groups of commands that are in several modules."""

import pkgutil
from typing import Any

import click


class Scattered(click.Group):
    """Knows the commands of other modules by name, and imports the one that is called.

    `elsewhere` has for each its place, and what the list of commands says of it.
    """

    def __init__(self, *arguments: Any, elsewhere: dict[str, tuple[str, str]], **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._elsewhere = elsewhere

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self.commands, *self._elsewhere]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in self._elsewhere:
            return super().get_command(ctx, name)
        command: click.Command = pkgutil.resolve_name(self._elsewhere[name][0])
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        own = [(name, command.get_short_help_str(80)) for name, command in self.commands.items()]
        with formatter.section("Commands"):
            formatter.write_dl([*own, *((name, about) for name, (_, about) in self._elsewhere.items())])
