"""Commands about models: list, show, refresh, trial."""

import click

from ostler.cli.groups import Scattered

ELSEWHERE = {
    "list": ("ostler.cli.cards:list_", "List the models that are known, with their prices."),
    "show": ("ostler.cli.cards:show", "Show what is known of a model, and who says so."),
    "refresh": ("ostler.cli.cards:refresh", "Fetch newer prices and windows."),
    "trial": ("ostler.cli.trial:trial", "Ask another model what it would have decided."),
}
"""Commands of other modules, and what the list of commands says of them."""


@click.group(cls=Scattered, elsewhere=ELSEWHERE)
def models() -> None:
    """What models there are, and what another one would do."""
