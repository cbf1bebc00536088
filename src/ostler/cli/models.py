"""Commands about models: list, show, refresh, trial."""

import pkgutil

import click

ELSEWHERE = {
    "list": ("ostler.cli.cards:list_", "List the models that are known, with their prices."),
    "show": ("ostler.cli.cards:show", "Show what is known of a model, and who says so."),
    "refresh": ("ostler.cli.cards:refresh", "Fetch newer prices and windows."),
    "trial": ("ostler.cli.trial:trial", "Ask another model what it would have decided."),
}
"""Commands of other modules, and what the list of commands says of them."""


class ModelCommands(click.Group):
    """Knows the commands of other modules by name, and imports the one that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self.commands, *ELSEWHERE]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in ELSEWHERE:
            return super().get_command(ctx, name)
        command: click.Command = pkgutil.resolve_name(ELSEWHERE[name][0])
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        own = [(name, command.get_short_help_str(80)) for name, command in self.commands.items()]
        with formatter.section("Commands"):
            formatter.write_dl([*own, *((name, about) for name, (_, about) in ELSEWHERE.items())])


@click.group(cls=ModelCommands)
def models() -> None:
    """What models there are, and what another one would do."""
