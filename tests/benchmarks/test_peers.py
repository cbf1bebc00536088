"""The side-by-side run: what it measures, what it tells of those that fail, and the page that comes of it."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import msgspec
import pytest

from benchmarks.peers.__main__ import Choice, run
from benchmarks.peers.contenders import DURABLE, LOOPS, MORTALS, Contender, floor, ours
from benchmarks.peers.load import ANSWER, Bench, Task, english
from benchmarks.peers.measure import Cost, Place, Row, side_by_side
from benchmarks.peers.page import BEGIN, END, Results, aims, page, plain, write
from benchmarks.peers.picture import picture
from benchmarks.peers.sweep import STEPS, Tally, kill, stop
from benchmarks.store import Rate, measure
from tests.servers import POSTGRES, need

NOWHERE = Path("/nowhere/python")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path, "", NOWHERE)


def row(contender: Contender, cpu_us: float, *, sessions: int = 1, speed: float = 100, disk: float = 1000) -> Row:
    cost = Cost(speed, cpu_us, None, 2.0, disk, disk, 1.0)
    return Row(contender, sessions, 400, 3, cost)


LANGGRAPH = Contender("LangGraph", "langgraph", "sqlite")
RESULTS = Results(
    command="python -m benchmarks.peers",
    machine="a machine",
    server={},
    versions={"langgraph": "1.2.3"},
    lone=[
        row(ours("sqlite"), 500, speed=1000),
        row(LANGGRAPH, 15_000, disk=150_000),
        Row(Contender("DBOS", "dbos", "sqlite"), 1, 400, 0, None, "ended with 1: no such | thing"),
    ],
    rates=[Rate("sqlite", 200, 10_000, 400, 60_000, {"executemany": 100_000})],
    kills=[Tally(ours("sqlite"), runs=20, unknown=3), Tally(LANGGRAPH, runs=20, twice=9)],
)


async def test_a_small_run_measures_ostler_the_floor_and_the_bare_loop(place: Place) -> None:
    results = await run(Choice(place, 1, 1, 1, ("lone", "together", "loops"), (), is_quick=True))
    for rows in (results.lone, results.together):
        assert [one.contender.module for one in rows] == ["ostler", "floor"]
        assert not [one.failure for one in rows if one.failure]
        own, bare = (one.cost for one in rows)
        assert own is not None
        assert bare is not None
        assert own.cpu_us > 0
        assert bare.disk == pytest.approx(own.disk, rel=0.5)
        assert own.commits is not None
        assert own.commits < 3
    assert {one.contender.module for one in results.loops} == {"ostler", "bare"}
    assert "raw inserts" in plain(results)


async def test_on_postgresql_the_cpu_of_the_server_its_commits_and_its_wal_are_measured_too(tmp_path: Path) -> None:
    need(POSTGRES)
    place = Place(tmp_path, POSTGRES, NOWHERE)
    contenders = [ours("sqlite"), ours("postgres"), floor("postgres")]
    task = Task("", 1, 50, text="english")
    rows = await side_by_side(place, contenders, task, 1, versions={}, progress=lambda line: None)
    assert [row.failure for row in rows] == ["", "", ""]
    own, bare = (row.cost for row in rows[1:])
    assert own is not None
    assert bare is not None
    assert own.commits is not None
    assert 1 < own.commits < 8
    assert own.disk > 200
    assert own.written > 200
    assert bare.written > 200


async def test_one_that_fails_is_reported_and_the_others_go_on(place: Place) -> None:
    absent = Contender("Absent", "absent", "sqlite", is_here=True)
    missing = Contender("Missing", "langgraph", "sqlite")
    said: list[str] = []
    rows = await side_by_side(
        place, [absent, missing, ours("sqlite")], Task("", 1, 3), 2, versions={}, progress=said.append
    )
    assert "No module named benchmarks.peers.absent" in rows[0].failure
    assert str(NOWHERE) in rows[1].failure
    assert rows[2].cost is not None
    assert rows[2].runs == 2
    assert [line for line in said if line.startswith("failed: Absent")]


def test_a_session_that_saw_something_else_is_refused() -> None:
    bench = Bench(Task("", 1, 2, text="english"))
    found = [bench.find("0.1"), bench.find("0.2")]
    bench.judge("0", found, ANSWER)
    for outputs, answer in ((found[:1], ANSWER), (found[::-1], ANSWER), (found, "gone")):
        with pytest.raises(AssertionError):
            bench.judge("0", outputs, answer)


def test_the_words_are_the_same_in_every_process_and_as_long_as_they_should_be() -> None:
    said, found = english()
    assert (said, found) == english()
    assert {len(text.encode()) for text in found} == {200}
    assert len(set(found)) == len(found)


async def test_a_tool_that_must_not_be_repeated_is_not_when_its_process_is_killed(place: Place, tmp_path: Path) -> None:
    just_after_the_effect = [0.0] * 3
    tally = await kill(ours("sqlite", tool="once"), place.store, NOWHERE, tmp_path, just_after_the_effect)
    assert tally.problems == []
    assert (tally.runs, tally.unfinished, tally.twice) == (3, 0, 0)
    assert tally.never <= tally.unknown


async def test_nor_when_its_process_is_stopped_and_goes_on_after_another_took_its_place(
    place: Place, tmp_path: Path
) -> None:
    tally = await stop(ours("sqlite", tool="once"), place.store, NOWHERE, tmp_path, 1)
    assert tally.problems == []
    assert (tally.runs, tally.unfinished, tally.twice, tally.conflicts) == (1, 0, 0, 0)
    assert tally.unknown == 1


def test_the_page_has_every_row_ratios_and_failures() -> None:
    text = page(RESULTS)
    assert "| SQLite | **Ostler** | 1,000 | 500 |" in text
    assert "| SQLite | LangGraph | 100 | 15,000 |  | 2 | 150,000 | 150,000 | 30 | 10.0 | 150 |" in text
    assert "| SQLite | DBOS | failed: ended with 1: no such / thing |" in text
    assert "langgraph 1.2.3" in text
    assert "**Busy.**" in page(msgspec.structs.replace(RESULTS, note="Busy."))
    assert "| SQLite | 200 | 400 | 60,000 | executemany 100,000 (60%) |" in text
    assert f"A session of {STEPS} steps" in text
    assert "| LangGraph | SQLite | 20 | 0 | 9 | 0 | 0 |" in text


def test_what_was_to_be_reached_is_judged_by_what_was_measured() -> None:
    verdicts = {aim.what: aim.verdict for aim in aims(RESULTS)}
    assert verdicts["lone, SQLite: CPU of LangGraph over ours"] == "reached"
    assert verdicts["lone, SQLite: our speed over LangGraph's"] == "missed"
    assert verdicts["200 at once: CPU of DBOS over ours"] == "not measured"


def test_the_section_is_written_between_its_marks_and_nowhere_else(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write(path, "new")
    assert path.read_text() == f"before\n{BEGIN}\nnew\n{END}\nafter\n"
    path.write_text("no marks\n")
    with pytest.raises(SystemExit):
        write(path, "new")
    assert path.read_text() == "no marks\n"


def test_the_picture_has_a_bar_for_everyone_who_did_not_fail() -> None:
    drawing = ElementTree.fromstring(picture(RESULTS))
    bars = drawing.findall("{http://www.w3.org/2000/svg}rect")
    assert [bar.get("class") for bar in bars] == ["ours", "other"]
    assert float(bars[0].get("width", "0")) < float(bars[1].get("width", "0"))


def test_results_survive_being_kept() -> None:
    assert msgspec.json.decode(msgspec.json.encode(RESULTS), type=Results) == RESULTS


def test_every_peer_has_its_file_and_a_pinned_version() -> None:
    folder = Path(__file__).parents[2] / "benchmarks" / "peers"
    for contender in (*DURABLE, *LOOPS, *MORTALS):
        assert (folder / f"{contender.module}.py").is_file()
    wanted = [line for line in (folder / "requirements.txt").read_text().splitlines() if line and line[0] != "#"]
    assert wanted
    assert all("==" in line for line in wanted)


async def test_the_store_is_measured_against_raw_inserts_of_the_same_rows() -> None:
    rate = await measure("sqlite:", appenders=5, each=4, rounds=1)
    assert rate.events == 40
    assert rate.in_commit == pytest.approx(10, rel=0.5)
    assert rate.store > 0
    assert rate.raw["executemany"] > 0
