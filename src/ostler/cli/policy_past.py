"""Rules and the past: why a call was judged as it was, and what other rules would have said of all calls."""

import sys
import time
from pathlib import Path

import click

from ostler.app.policy.backtest import Backtest
from ostler.app.policy.backtest import backtest as judged_again
from ostler.app.policy.case import read_case
from ostler.app.policy.examples import read_table
from ostler.app.policy.explain import explain_case, explain_event
from ostler.app.policy.files import load_policy
from ostler.app.service import Runtime
from ostler.cli.base import acting_option, acting_principal, find_session, using_runtime
from ostler.cli.output import Format, Rows, blocks, emit, output_options, say
from ostler.cli.policy import verdict_said
from ostler.cli.words import count, span_us
from ostler.domain.constraint.explanation import Considered, Explanation
from ostler.kernel.errors import UsageError

PROGRESS_S = 0.2
_MATCHED = {True: "matches", False: "no", None: "cannot be evaluated"}


@click.command()
@click.argument("call", metavar="CALL|EVENT")
@click.option("--rules", metavar="RULES", help="Judge by these rules instead of those that were in force.")
@acting_option
@output_options
def explain(call: str, rules: str | None, acting: str | None, output: Format) -> None:
    """Say which rules match a call, which do not and why, and what its risk score is made of.

    CALL is a file of TOML or JSON that describes one (as in a file of examples); it needs --rules. EVENT is
    SESSION/SEQ, an event that tells of a judgement: the facts are those of that moment, from the log.
    """
    if Path(call).suffix in (".toml", ".json"):
        if rules is None:
            raise UsageError("A call that is described in a file is under no policy.", hint="Name one by --rules.")
        found = [explain_case(load_policy(rules), read_case(read_table(Path(call)), source=call))]
    else:
        name, slash, seq = call.rpartition("/")
        if not slash or not seq.isdecimal():
            raise UsageError(f"{call!r} is no event.", hint="Write SESSION/SEQ; `ostler logs SESSION` shows them.")
        found = using_runtime(lambda runtime: _explained(runtime, name, int(seq), rules, acting))
    emit(found, output, lambda: blocks([record for one in found for record in _records(one)]))


async def _explained(runtime: Runtime, name: str, seq: int, rules: str | None, acting: str | None) -> list[Explanation]:
    tenant = (await acting_principal(runtime, acting)).tenant
    session = await find_session(runtime, name, tenant=tenant)
    return await explain_event(runtime.parts.store, session.stream, seq, load_policy(rules) if rules else None)


def _records(one: Explanation) -> list[list[tuple[str, str]]]:
    head = [("policy", one.verdict.policy), ("verdict", verdict_said(one.verdict))]
    head += [("asks", _demand_said(demand)) for demand in one.verdict.demands]
    head += [("risk", f"{part.amount:g} {part.because}") for part in one.risk if part.counts]
    return [head, [(rule.rule, _rule_said(rule)) for rule in one.rules], list(one.facts)]


def _demand_said(demand: object) -> str:
    count_, roles = getattr(demand, "count", 1), getattr(demand, "roles", ())
    return count(count_, "approval") + (f" of {' or '.join(roles)}" if roles else "")


def _rule_said(rule: Considered) -> str:
    unmet = f": {rule.unmet}" if rule.unmet else ""
    because = f" – {rule.reason}" if rule.reason and rule.matched else ""
    return f"{rule.effect}, {_MATCHED[rule.matched]}{unmet}{because}"


@click.command()
@click.argument("rules", metavar="RULES")
@click.option("--since", default="7d", show_default=True, metavar="SPAN", help="How far back: 7d, 12h, 30m.")
@click.option("--agent", metavar="NAME", help="Only calls of this agent (coder, or coder@3).")
@click.option("--tenant", metavar="NAME", help="Only calls of this tenant.")
@output_options
def backtest(rules: str, since: str, agent: str | None, tenant: str | None, output: Format) -> None:
    """Judge every recorded call by other RULES, and show which of them they would have judged otherwise.

    By the facts that were known then, questions about the past included. Only what was judged is looked at: what would
    have followed from another judgement cannot be known.
    """
    span = span_us(since)

    async def work(runtime: Runtime) -> Backtest:
        store = runtime.parts.store
        with _Gauge(await store.head()) as gauge:
            since_us = runtime.parts.clock.now_us() - span
            return await judged_again(
                store, load_policy(rules), since_us=since_us, agent=agent, tenant=tenant, progress=gauge.show
            )

    done = using_runtime(work)
    emit(done, output, lambda: _changes(done))
    said = ", ".join(f"{number:,} from {change}" for change, number in sorted(done.changes.items()))
    say(f"{count(done.calls, 'call')}, {done.calls - done.same:,} judged otherwise{f': {said}' if said else ''}.")
    if done.unreadable:
        say(f"{count(done.unreadable, 'session')} could not be read: the content is erased, or of another version.")


def _changes(done: Backtest) -> Rows:
    rows = [
        (f"{one.session}/{one.seq}", one.tool or "(model)", one.then, one.rule or "–", one.now, one.new_rule or "–")
        for one in done.changed
    ]
    return Rows("event", "tool", "then", "by", "now", "by", rows=rows)


class _Gauge:
    """Shows on a terminal how much of the log is read, on a line that is gone afterwards."""

    def __init__(self, head: int) -> None:
        self._head = head
        self._shown = time.monotonic()

    def __enter__(self) -> "_Gauge":
        return self

    def __exit__(self, *_: object) -> None:
        self._write("")

    def show(self, position: int) -> None:
        """Say so, if it is time to."""
        if time.monotonic() - self._shown >= PROGRESS_S:
            self._shown = time.monotonic()
            self._write(f"{100 * position / max(1, self._head):3.0f} %  of {self._head:,} events")

    def _write(self, text: str) -> None:
        if sys.stderr.isatty():
            click.echo("\r" + text.ljust(40) + ("" if text else "\r"), nl=False, err=True)
