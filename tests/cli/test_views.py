"""`ostler views` and `ostler usage`: what they print, and that they make nothing up."""

import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from ostler.adapters.store.sqlite_views import SqliteViewStore
from ostler.cli.views import Gauge
from ostler.kernel.errors import StoreFull
from ostler.runtime.projector import Progress
from ostler.views.catalogue import VIEWS
from tests.cli.conftest import Ostler
from tests.cli.test_look import ran


def test_views_are_listed_with_how_far_they_are(ostler: Ostler) -> None:
    ran(ostler, "answer")
    listed = [(view["name"], view["version"]) for view in json.loads(ostler("views", "--json").stdout)]
    assert listed == [(view.name, view.version) for view in VIEWS]
    assert ostler("views", "rebuild").exit_code == 0
    for view in json.loads(ostler("views", "--json").stdout):
        assert (view["behind"], view["rows"] > 0, view["position"] > 4) == (0, True, True)
    ran(ostler, "answer")
    shown = ostler("views").stdout
    assert "sessions" in shown
    assert "behind" in shown


def test_a_view_is_made_anew_alone_or_with_all_others(ostler: Ostler) -> None:
    ran(ostler, "answer")
    (one,) = json.loads(ostler("views", "rebuild", "usage", "--json").stdout)
    assert (one["name"], one["events"] > 4, one["seconds"] > 0) == ("usage", True, True)
    begun = [view["name"] for view in json.loads(ostler("views", "--json").stdout) if view["position"] > 0]
    assert begun == ["usage"]
    every = json.loads(ostler("views", "rebuild", "-o", "json").stdout)
    assert [view["name"] for view in every] == ["outcomes", "sessions", "usage", "work"]
    assert every == sorted(every, key=lambda view: view["name"])
    assert "usage" in ostler("views", "rebuild").stdout
    assert ostler("views", "rebuild", "nothing").exit_code == 2


def test_lists_are_the_same_before_and_after_views_are_made(ostler: Ostler) -> None:
    for goal in ("answer", "pay", "rob", "write", "look for ever"):
        ran(ostler, goal)
    before = [ostler(*command).stdout for command in (["ps", "-a", "--json"], ["approvals", "--json"])]
    ostler("views", "rebuild")
    assert [ostler(*command).stdout for command in (["ps", "-a", "--json"], ["approvals", "--json"])] == before
    assert len(json.loads(before[0])) == 5
    ran(ostler, "answer")
    assert len(json.loads(ostler("ps", "-a", "--json").stdout)) == 6


def test_usage_is_summed_up_by_day_agent_or_model(ostler: Ostler) -> None:
    assert "Nothing was used in 30 days." in ostler("usage").stderr
    for goal in ("answer", "pay", "rob"):
        ran(ostler, goal)
    for by, name in (("agent", "clerk@1"), ("model", "strategy:clerk")):
        (used,) = json.loads(ostler("usage", "--by", by, "--json").stdout)
        assert used[by] == name
        assert (used["sessions"], used["completed"], used["model_calls"], used["refused"]) == (3, 2, 4, 1)
        assert (used["input_tokens"], used["cost_microusd"]) == (1000, 2000)
        assert name in ostler("usage", "--by", by).stdout
    (day,) = json.loads(ostler("usage", "--days", "2", "--json").stdout)
    assert len(day["day"]) == len("2026-01-31")
    assert ostler("usage", "--days", "0").exit_code == 2


def test_usage_catches_up_with_what_has_happened_since(ostler: Ostler) -> None:
    for count in (1, 2):
        ran(ostler, "answer")
        (used,) = json.loads(ostler("usage", "--by", "agent", "--json").stdout)
        assert used["completed"] == count
    assert [view["behind"] for view in json.loads(ostler("views", "--json").stdout)][2] == 0


def test_events_that_could_not_be_counted_are_told_of(ostler: Ostler, project: Path) -> None:
    ran(ostler, "answer")
    with closing(sqlite3.connect(project / ".ostler/ostler.db")) as connection, connection:
        connection.execute("UPDATE events SET data = CAST('{}' AS BLOB) WHERE seq = 3")
    told = ostler("usage")
    assert "1 event could not be read and so not be counted" in told.stderr
    assert "clerk@1" in ostler("usage", "--by", "agent").stdout


def test_usage_of_a_store_that_cannot_be_written_to_says_how_far_it_has_counted(
    ostler: Ostler, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran(ostler, "answer")
    assert ostler("usage").stderr == ""
    ran(ostler, "answer")

    async def advance(*_: object, **__: object) -> None:
        raise StoreFull()

    monkeypatch.setattr(SqliteViewStore, "advance", advance)
    told = ostler("usage", "--json")
    assert [day["completed"] for day in json.loads(told.stdout)] == [1]
    assert "The last 6 events of the log are not counted yet. There is no space" in told.stderr


@pytest.mark.parametrize("command", [["views"], ["views", "rebuild"], ["usage"]], ids=" ".join)
def test_whoever_looks_at_views_makes_no_store(ostler: Ostler, project: Path, command: list[str]) -> None:
    named = ostler("--store", "sqlite:///deep/slip.db", *command)
    assert (named.exit_code, named.stdout) == (7, "")
    assert ostler(*command).exit_code == 0
    assert not (project / ".ostler").exists()


def test_progress_is_a_line_that_says_how_much_is_left() -> None:
    line = Gauge.line(Progress("usage", 250_000, 1_000_000, 250_000), 5.0)
    assert line == "usage   25 %   250,000 events   50,000/s   15.0 s left"
    assert Gauge.line(Progress("usage", 0, 0, 0), 0.0) == "usage  100 %   0 events   0/s"


def test_progress_is_shown_on_a_terminal_and_gone_afterwards(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ostler.cli.views.PROGRESS_S", 0)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with Gauge() as gauge:
        gauge.show(Progress("usage", 1, 2, 1))
    shown = capsys.readouterr().err
    assert "usage   50 %" in shown
    last = shown.rpartition("\r")[0].rpartition("\r")[2]
    assert (last.strip(), len(last) > 20, shown[-1]) == ("", True, "\r")
