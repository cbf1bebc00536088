"""The results as the section of the page that tells of them."""

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from benchmarks.peers.contenders import PROMISES, STORES, Contender
from benchmarks.peers.measure import Cost, Row
from benchmarks.peers.sweep import LEASE_S, STEPS, Tally
from benchmarks.store import Rate

BEGIN, END = "<!-- begin: peers -->", "<!-- end: peers -->"


class Results(msgspec.Struct):
    """Everything that one run has found. `note` is what a reader must know of how it came about."""

    command: str
    machine: str
    server: dict[str, str]
    versions: dict[str, str]
    minutes: float = 0
    lone: list[Row] = []
    together: list[Row] = []
    loops: list[Row] = []
    kills: list[Tally] = []
    stops: list[Tally] = []
    rates: list[Rate] = []
    note: str = ""


class Aim(msgspec.Struct, frozen=True):
    """A ratio that was to be reached, and what it is; None where one of the two is missing."""

    what: str
    wanted: float
    found: float | None

    @property
    def verdict(self) -> str:
        return "not measured" if self.found is None else "reached" if self.found >= self.wanted else "missed"


def page(results: Results) -> str:
    """The section, in Markdown."""
    parts = [
        _opening(results),
        _durable(results.lone),
        _durable(results.together),
        _groups(results.rates),
        _loops(results),
        _kills(results.kills),
        _stops(results.stops),
        _aims(results),
    ]
    return "\n\n".join(part for part in parts if part)


def plain(results: Results) -> str:
    """The same for a terminal, without the prose."""
    blocks = [
        _costs(results.lone),
        _costs(results.together),
        _rate_table(results.rates),
        _loop_table(results.loops),
        _tally_table(results.kills),
        _tally_table(results.stops),
        _aims(results),
    ]
    return "\n\n".join(block for block in blocks if block)


def write(path: Path, section: str) -> None:
    """Put the section between its markers."""
    before, begin, rest = path.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{path} has no place for it: {BEGIN} … {END}")
    path.write_text(f"{before}{BEGIN}\n{section}\n{END}{after}")


def aims(results: Results) -> list[Aim]:
    """What was to be reached, in the order in which it is shown."""
    lone, together = results.lone, results.together
    sqlite, postgres = _ratios(lone, "sqlite"), _ratios(lone, "postgres")
    both = [_ratios(together, store) for store in ("sqlite", "postgres")]

    def least(module: str, ratio: Callable[[Cost, Cost], float]) -> float | None:
        found = [one for ratios in both if (one := ratios(module, "", ratio)) is not None]
        return min(found, default=None)

    listed = [
        Aim("lone, SQLite: CPU of LangGraph over ours", 20, sqlite("langgraph", "", _cpu)),
        Aim("… through its async interface", 20, sqlite("langgraph", "async", _cpu)),
        Aim("lone, SQLite: our speed over LangGraph's", 12, sqlite("langgraph", "", _speed)),
        Aim("… through its async interface", 12, sqlite("langgraph", "async", _speed)),
        Aim("lone, SQLite: bytes of LangGraph over ours", 200, sqlite("langgraph", "", _disk)),
        Aim(
            "lone, PostgreSQL: bytes (tables and WAL) of LangGraph over ours", 50, postgres("langgraph", "", _all_bytes)
        ),
        Aim("lone, PostgreSQL: our speed over Absurd's", 1, postgres("absurd", "", _speed)),
        Aim("200 at once: CPU of LangGraph over ours", 30, least("langgraph", _cpu)),
        Aim("200 at once: CPU of DBOS over ours", 30, least("dbos", _cpu)),
        Aim("200 at once: our speed over Absurd's", 4, both[1]("absurd", "", _speed)),
    ]
    for kind in ("sqlite", "postgres"):
        found = [rate.store / rate.raw["executemany"] for rate in results.rates if rate.kind == kind]
        listed.append(Aim(f"group commit, {STORES[kind]}: of raw `executemany`", 0.5, min(found, default=None)))
    for steps in sorted({row.steps for row in results.loops}):
        rows = [row for row in results.loops if row.steps == steps]
        own = next((row.cost for row in rows if _is_ours(row.contender) and row.cost), None)
        others = [row for row in rows if row.contender.module not in ("ostler", "bare") and row.cost]
        for row in others:
            assert row.cost is not None
            name = f"{steps} steps: CPU of {row.contender.name}, which keeps nothing, over ours"
            listed.append(Aim(name, 1, row.cost.cpu_us / own.cpu_us if own else None))
    return listed


Ratio = Callable[[Cost, Cost], float]


def _cpu(ours: Cost, theirs: Cost) -> float:
    return theirs.cpu_all_us / ours.cpu_all_us


def _speed(ours: Cost, theirs: Cost) -> float:
    return ours.steps_per_s / theirs.steps_per_s


def _disk(ours: Cost, theirs: Cost) -> float:
    return theirs.disk / ours.disk if ours.disk else 0


def _all_bytes(ours: Cost, theirs: Cost) -> float:
    return (theirs.disk + theirs.written) / (ours.disk + ours.written)


def _ratios(rows: Sequence[Row], store: str) -> Callable[[str, str, Ratio], float | None]:
    def find(module: str, variant: str) -> Cost | None:
        for row in rows:
            if (row.contender.module, row.contender.store, row.contender.variant) == (module, store, variant):
                return row.cost
        return None

    def ratio(module: str, variant: str, of: Ratio) -> float | None:
        ours, theirs = find("ostler", ""), find(module, variant)
        return None if ours is None or theirs is None else of(ours, theirs)

    return ratio


def _opening(results: Results) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in sorted(results.versions.items()) if name != "ostler")
    server = results.server
    settings = ", ".join(f"{name} {value}" for name, value in server.items() if name != "server_version")
    stores = "SQLite with `synchronous=FULL`"
    if server:
        stores += f"; PostgreSQL {server['server_version']} on the same machine ({settings})"
    note = f"\n\n**{results.note}**" if results.note else ""
    return f"""\
![CPU of a step, beside its peers, on a logarithmic scale](benchmarks.svg)

The same agent loop for all: a model in the same process that answers at once and asks for one call a turn, a tool that
returns 200 bytes of random words, a final answer; what every session saw is compared with what it was given. One
machine, one run of {results.minutes:.0f} minutes, turn about, medians (what takes more than 20 s is run once):
{results.machine}; {stores}. {versions}.{note}

```sh
ABSURD_SQL=… make bench-peers   # {results.command}
```

Every peer is used as its documentation says for durability: LangGraph with `durability="sync"`, DBOS and Absurd with
the model call and the tool call as a step each. *CPU* is that of the worker's process, *server* that of all processes
of PostgreSQL; *disk* is what the tables or the file have grown by, *written* what went into PostgreSQL's WAL, or into
SQLite's files altogether. *Raw inserts* are the rows of Ostler's log, written by hand into the same store with two
commits a step of all sessions. × is the ratio to Ostler on the same store: of CPU and server together, of speed, and of
disk. Each peer is one worker process, driven through its blocking interface, the cheaper one, unless the row says
otherwise; LangGraph's `DeltaChannel`, which keeps what a step adds instead of the whole list, is in beta. On SQLite
DBOS has settings of its own: a rollback journal."""


def _durable(rows: Sequence[Row]) -> str:
    if not rows:
        return ""
    sessions, steps = rows[0].sessions, rows[0].steps
    title = f"One session of {steps} steps" if sessions == 1 else f"{sessions} sessions of {steps} steps at once"
    return f"### {title}\n\n{_costs(rows)}"


def _costs(rows: Sequence[Row]) -> str:
    if not rows:
        return ""
    lines = [
        "| store | | steps/s | CPU µs | server µs | commits | disk B | written B | CPU × | slower × | disk × |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        own = next(
            (one.cost for one in rows if _is_ours(one.contender) and one.contender.store == row.contender.store), None
        )
        lines.append(_line(row, own))
    return "\n".join(lines)


def _is_ours(contender: Contender) -> bool:
    return contender.module == "ostler"


def _line(row: Row, own: Cost | None) -> str:
    name, store, cost = row.contender.name, STORES[row.contender.store], row.cost
    if cost is None:
        return f"| {store} | {name} | failed: {row.failure.replace('|', '/')[:120]} |" + " |" * 8
    ratios = ["", "", ""]
    if own is not None and not _is_ours(row.contender):
        ratios = [_times(ratio(own, cost)) for ratio in (_cpu, _speed, _disk)]
    shown = "**" if _is_ours(row.contender) else ""
    cells = [
        *(store, f"{shown}{name}{shown}", _number(cost.steps_per_s), _number(cost.cpu_us), _number(cost.server_us)),
        *("" if cost.commits is None else f"{cost.commits:.3g}", _number(cost.disk), _number(cost.written), *ratios),
    ]
    return f"| {' | '.join(cells)} |"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def _times(value: float) -> str:
    return f"{value:,.0f}" if value >= 20 else f"{value:.2g}" if value < 1 else f"{value:.1f}"


def _groups(rates: Sequence[Rate]) -> str:
    if not rates:
        return ""
    return f"""\
### Group commit

Events per second of the store alone, beside raw inserts of the same rows into the same store in as many commits, which
check nothing, look after no streams and answer nobody. In brackets: what the store reaches of each.

{_rate_table(rates)}"""


def _rate_table(rates: Sequence[Rate]) -> str:
    if not rates:
        return ""
    lines = ["| store | appenders | events a commit | Ostler | raw inserts |", "|---|---:|---:|---:|---|"]
    for rate in rates:
        raw = ", ".join(f"{name} {value:,.0f} ({rate.store / value:.0%})" for name, value in rate.raw.items())
        cells = [STORES[rate.kind], str(rate.appenders), _number(rate.in_commit), _number(rate.store), raw]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _loops(results: Results) -> str:
    if not results.loops:
        return ""
    company = next((row for row in results.together if _is_ours(row.contender) and row.cost), None)
    aside = ""
    if company is not None and company.cost is not None:
        aside = (
            f" With {company.sessions} sessions at once, as above, a step of Ostler's is {company.cost.cpu_us:.0f} µs."
        )
    return f"""\
### Beside loops that keep nothing

CPU µs of a step of sessions run one after another. Ostler judges every call and makes every step durable (SQLite); the
others keep nothing, and would begin again after a crash.{aside}

{_loop_table(results.loops)}"""


def _loop_table(rows: Sequence[Row]) -> str:
    if not rows:
        return ""
    lengths = sorted({row.steps for row in rows})
    names = list(dict.fromkeys(row.contender.name for row in rows))
    costs = {(row.contender.name, row.steps): row for row in rows}
    lines = [
        f"| | {' | '.join(f'{steps} steps' for steps in lengths)} |",
        f"|---|{'---:|' * len(lengths)}",
    ]
    for name in names:
        cells = [_loop_cell(costs.get((name, steps))) for steps in lengths]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _loop_cell(row: Row | None) -> str:
    if row is None:
        return ""
    return _number(row.cost.cpu_us) if row.cost else "failed"


def _kills(tallies: Sequence[Tally]) -> str:
    if not tallies:
        return ""
    names = {tally.contender.module: tally.contender.name.partition(",")[0] for tally in tallies}
    promises = "\n".join(f"* {names[module]}: {promise}." for module, promise in PROMISES.items() if module in names)
    return f"""\
### Killed

A session of {STEPS} steps whose tool adds a line to a file outside, which nothing takes back. The process is killed
with SIGKILL once in each run, at moments spread over the whole session, and another goes on with it as the
documentation says. What each promises of a call that was under way:

{promises}

{_tally_table(tallies)}"""


def _stops(tallies: Sequence[Tally]) -> str:
    if not tallies:
        return ""
    return f"""\
### Stopped and continued

The process is stopped with SIGSTOP just after an effect, or just before one, for longer than the lease of {LEASE_S} s
(where there are leases); another takes over and finishes; then the first goes on. *Late* are effects of the first after
that; a *conflict* is a history that a process returned and that is not the one in the store.

No store can call back a process that was stopped just before its effect and has it when it goes on. What differs is
whether another has done the same meanwhile: with `once` nobody has, since the outcome was recorded as unknown.

{_tally_table(tallies)}"""


def _tally_table(tallies: Sequence[Tally]) -> str:
    if not tallies:
        return ""
    are_stops = any(tally.late or tally.conflicts for tally in tallies)
    head = "| | store | runs | never finished | effects done twice | effects never done | recorded as unknown |"
    lines = [head + (" late | conflicts |" if are_stops else ""), "|---|---|" + "---:|" * (7 if are_stops else 5)]
    for tally in tallies:
        counts = [tally.runs, tally.unfinished, tally.twice, tally.never, tally.unknown]
        counts += [tally.late, tally.conflicts] if are_stops else []
        name = tally.contender.name + (f" ({tally.problems[0][:100]})" if tally.problems else "")
        cells = [name.replace("|", "/"), STORES[tally.contender.store], *map(str, counts)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _aims(results: Results) -> str:
    lines = ["### What was to be reached", "", "| ratio | at least | measured | |", "|---|---:|---:|---|"]
    for aim in aims(results):
        found = "" if aim.found is None else _times(aim.found)
        lines.append(f"| {aim.what} | {aim.wanted:g} | {found} | {aim.verdict} |")
    return "\n".join(lines)
