"""Budgets in `ostler.toml`: what can be said, and what is a mistake."""

from pathlib import Path

import msgspec
import pytest

from ostler.adapters.store.memory_ledger import MemoryLedger
from ostler.app.accounts import standings
from ostler.app.bootstrap import connect
from ostler.app.settings import PROJECT_FILE, Settings, resolve
from ostler.domain.budget import DAY_US, Budget, Budgets, Draw, Holder, Reserved, Who
from ostler.kernel.errors import DefinitionInvalid

ALL = """
    [budgets.tenants."*"]
    usd_per_day = 5
    tokens_per_month = 1_000_000
    [budgets.tenants.acme]
    usd_per_day = 20.5
    soft = "80%"
    then = "ask"
    unpriced = "allow"
    [budgets.agents.coder]
    calls_per_hour = 100
    sliding = true
    [budgets.principals."*"]
    seconds = 1.5
    [budgets.fleet]
    usd_per_month = 1000
    [budgets.trees]
    usd = 3
    [budgets.sessions]
    steps = 40
    [budgets.calls]
    tokens = 20_000
"""


def read(folder: Path, text: str) -> Settings:
    (folder / PROJECT_FILE).write_text(text)
    return resolve({}, folder)


def test_every_table_makes_budgets(tmp_path: Path) -> None:
    budgets = read(tmp_path, ALL).budgets.budgets
    assert budgets.tenants["acme"] == (
        Budget(
            name="usd_per_day",
            scope="tenant",
            unit="microusd",
            most=20_500_000,
            soft=16_400_000,
            period="day",
            then="ask",
            unpriced="allow",
        ),
        Budget(name="tokens_per_month", scope="tenant", unit="tokens", most=1_000_000, period="month"),
    )
    assert budgets.agents["coder"] == (
        Budget(name="calls_per_hour.sliding", scope="agent", unit="calls", most=100, period=DAY_US // 24),
    )
    assert budgets.principals["*"] == (
        Budget(name="seconds", scope="principal", unit="microseconds", most=1_500_000, period=None),
    )
    assert [(one.name, one.scope, one.most) for one in (*budgets.fleet, *budgets.trees)] == [
        ("usd_per_month", "fleet", 10**9),
        ("usd", "tree", 3_000_000),
    ]
    assert [(one.name, one.scope, one.most) for one in (*budgets.sessions, *budgets.calls)] == [
        ("steps", "session", 40),
        ("tokens", "call", 20_000),
    ]


def test_what_a_table_leaves_out_is_as_that_of_all_others(tmp_path: Path) -> None:
    text = '[budgets.agents."*"]\nusd_per_day = 1\ncalls = 5\n[budgets.agents.a]\nusd_per_day = 2\nsliding = true'
    agents = read(tmp_path, text).budgets.budgets.agents
    assert [(one.name, one.most) for one in agents["a"]] == [("calls", 5), ("usd_per_day.sliding", 2_000_000)]


def test_a_project_without_budgets_has_none(tmp_path: Path) -> None:
    assert not read(tmp_path, "").budgets.budgets
    assert bool(read(tmp_path, "[budgets.calls]\nusd = 0.5").budgets.budgets)


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("[budgets.tenant.acme]\nusd = 1", [("budgets.tenant", "is unknown (did you mean 'tenants'?)")]),
        (
            "[budgets.tenants.acme]\nusd_per_dya = 1",
            [("budgets.tenants.acme.usd_per_dya", "is unknown (did you mean 'usd_per_day'?)")],
        ),
        ("[budgets.sessions]\nusd_per_day = 1", [("budgets.sessions.usd_per_day", "is unknown")]),
        (
            "[budgets.fleet]\nusd = 0\n[budgets.calls]\ntokens = -1",
            [("budgets.fleet.usd", "expected `float` > 0"), ("budgets.calls.tokens", "expected `int` >= 1")],
        ),
        ("[budgets.fleet]\nusd = inf", [("budgets.fleet.usd", "expected `float` <= 1000000000")]),
        ("[budgets.fleet]\ntokens = 1.5", [("budgets.fleet.tokens", "expected `int`, got `float`")]),
        (
            "[budgets.agents.a]\nsoft = '80%'",
            [("budgets.agents.a", "limits nothing; set at least one of: usd, tokens, seconds, calls, steps, usd_per_")],
        ),
        ("[budgets.calls]\nthen = 'ask'", [("budgets.calls", "limits nothing; set at least one of: usd, tokens, sec")]),
        (
            "[budgets.fleet]\nusd = 1\nsoft = '80'\n[budgets.trees]\nusd = 1\nsoft = '101%'",
            [
                ("budgets.fleet.soft", "'80' is no share of a budget; write one such as \"80%\""),
                ("budgets.trees.soft", "'101%' is no share of a budget"),
            ],
        ),
        ("[budgets.fleet]\nusd = 1\nthen = 'warn'", [("budgets.fleet.then", "'warn' is none of 'stop', 'ask'")]),
        ("[budgets.principals.'']\nusd = 1", [("budgets.principals.", "is nobody's name")]),
        ("budgets = 5", [("budgets", "expected a table, got int")]),
    ],
)
def test_every_mistake_is_told_with_its_path(tmp_path: Path, text: str, problems: list[tuple[str, str]]) -> None:
    with pytest.raises(DefinitionInvalid) as invalid:
        read(tmp_path, text)
    assert len(invalid.value.problems) == len(problems)
    for (path, problem), (expected, beginning) in zip(invalid.value.problems, problems, strict=True):
        assert path == expected
        assert problem.startswith(beginning)


def test_the_budgets_are_plain_values(tmp_path: Path) -> None:
    tables = read(tmp_path, ALL).budgets
    assert msgspec.json.decode(msgspec.json.encode(tables), type=type(tables)) == tables
    budgets = tables.budgets
    assert msgspec.json.decode(msgspec.json.encode(budgets), type=Budgets) == budgets


@pytest.mark.parametrize("store", ["memory:", "sqlite:///{}/ostler.db"])
async def test_the_ledger_of_a_process_is_one_and_in_its_store(tmp_path: Path, store: str) -> None:
    parts = await connect(Settings(store=store.format(tmp_path), folder=tmp_path))
    holder, draw = Holder("acme", "ses_1", "1"), Draw(tenant="acme", account="a", amount=5, most=5)
    assert await parts.ledger.reserve(holder, [draw], now_us=1, until_us=2) == Reserved()
    assert await parts.ledger.accounts("acme") == ["a"]
    await parts.close()


async def test_named_budgets_and_all_that_are_used_are_shown(tmp_path: Path) -> None:
    text = """
        [budgets.tenants.acme]
        usd_per_day = 20
        [budgets.tenants.rival]
        usd_per_day = 1
        [budgets.agents."*"]
        tokens_per_day = 100
        [budgets.agents.named]
        tokens_per_day = 200
        [budgets.sessions]
        calls = 3
    """
    budgets, ledger = read(tmp_path, text).budgets.budgets, MemoryLedger()
    who = Who("acme", "ses_1", "ses_1", "a.b", "ann")
    for one in budgets.accounts(who, DAY_US):
        draw = Draw(tenant=one.tenant, account=one.name, amount=3, most=None, unit=one.budget.unit)
        await ledger.reserve(Holder("acme", "ses_1", one.name), [draw], now_us=DAY_US, until_us=DAY_US)
    found = await standings(ledger, budgets, "acme", now_us=DAY_US)
    assert [(one.account, one.subject, one.used, one.reserved, one.most) for one in found] == [
        ("tenants.acme.usd_per_day.1970-01-02", "acme", 3, 3, 20_000_000),
        ("agents.a.b.tokens_per_day.1970-01-02", "a.b", 3, 3, 100),
        ("agents.named.tokens_per_day.1970-01-02", "named", 0, 0, 200),
    ]
    with_sessions = await standings(ledger, budgets, "acme", now_us=DAY_US, with_sessions=True)
    assert [one.account for one in with_sessions[3:]] == ["sessions.ses_1.calls"]
    assert [one.used for one in await standings(ledger, budgets, "acme", now_us=2 * DAY_US)] == [0, 0]
