"""How a policy does on recorded tasks and attacks: policy score."""

from pathlib import Path

import click

from ostler.app.score import Score, Total, score_files
from ostler.cli.output import Format, Rows, emit, output_options, say
from ostler.cli.words import count


@click.command()
@click.option(
    "--suite",
    "suites",
    required=True,
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Tasks and attacks, as JSON; may be repeated.",
)
@click.option(
    "--roles",
    required=True,
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="What the tools do, as TOML: one file for all suites, or one for each in their order.",
)
@click.option(
    "--rules",
    default="standard",
    show_default=True,
    metavar="FILE",
    help="The policy: a file of rules, or the name of one that comes with Ostler.",
)
@click.option("--details", is_flag=True, help="Also list the tasks that need a person and the attacks let through.")
@output_options
def score(suites: tuple[Path, ...], roles: tuple[Path, ...], rules: str, details: bool, output: Format) -> None:
    """Measure a policy against recorded tasks and attacks, without a model.

    Every task is replayed by the calls that solved it. Every attack is replayed by an agent that believes whatever it
    reads: from the first result that shows the attacker's text on, it makes every call that the text asks for.
    """
    scored = score_files(suites, roles, rules)
    emit(scored, output, lambda: _table(scored))
    if scored.total.without_calls:
        say(
            f"Not counted: {count(scored.total.without_calls, 'attack')} that asked for no call but for words in the "
            "answer, which no rule about calls can stop."
        )
    if details:
        _say_details(scored)


def _table(scored: Score) -> Rows:
    return Rows(
        "suite",
        "tasks>",
        "alone>",
        "with approvals>",
        "refused>",
        "writes held>",
        "attacks>",
        "stopped>",
        "held>",
        "let through>",
        rows=[_row(total) for total in (*scored.suites, scored.total)],
    )


def _row(total: Total) -> list[str]:
    def of_tasks(number: int) -> str:
        return _share(number, total.tasks)

    def of_attacks(number: int) -> str:
        return _share(number, total.attacks)

    return [
        total.suite,
        str(total.tasks),
        of_tasks(total.done),
        of_tasks(total.approved),
        of_tasks(total.refused),
        f"{total.writes_held} of {_share(total.writes_held, total.writes, of=True)}",
        str(total.attacks),
        of_attacks(total.stopped),
        of_attacks(total.held),
        of_attacks(total.let_through),
    ]


def _share(number: int, whole: int, *, of: bool = False) -> str:
    """`12 (48 %)`, or with `of` the whole instead: `25 (48 %)`."""
    return f"{whole if of else number} ({number / whole:.1%})" if whole else "0"


def _say_details(scored: Score) -> None:
    for task in scored.tasks:
        if task.outcome != "done":
            calls = ", ".join(f"{call} (denied)" for call in task.denied) or ", ".join(task.held)
            say(f"{task.suite} {task.task} is {task.outcome}: {calls}")
    for attack in scored.attacks:
        if attack.outcome == "let_through":
            say(f"{attack.suite} {attack.goal} is let through during {attack.task}")
