"""What was taken along proves itself on any machine; whoever tampers with it, or with the store, is found."""

import sqlite3
from contextlib import closing

import msgspec
import pytest

from ostler.app.audit.lines import Line
from ostler.app.audit.note import SigningKey
from ostler.app.audit.tree import VIEW
from ostler.app.audit.verify import Outside, Verifier, verify_store
from ostler.kernel.errors import Conflict, NotFound, StoreCorrupt, UsageError
from ostler.kernel.event import GENESIS, StreamId, link
from tests.app.audit.stable import DAY_US, KEY, STRANGER, Stable, failed, judged, of_kind
from tests.servers import fresh_schema

ACME = KEY.verifier("acme")
decode = msgspec.json.Decoder(Line).decode


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def url(request, tmp_path):
    if request.param == "memory":
        yield "memory:"
    elif request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/ostler.db"
    else:
        with fresh_schema() as schema:
            yield schema


async def busy(url="memory:"):
    """A store with three days: each has a session of its own, and one goes on through all of them."""
    stable = await Stable.open(url)
    for day in (1, 2, 3):
        for _ in range(3):
            await stable.write("ses_long", 2)
            await stable.write(f"ses_day{day}", 3)
            await stable.write("ses_1", 1, tenant="rival")
        await stable.sign()
        stable.clock.us += DAY_US
    return stable


def day(stable, number):
    """The moment at which a day begins, from 1. Half a day later everything of it happens."""
    return stable.clock.us + (number - 4) * DAY_US - DAY_US // 2


def altered(lines, number, **fields):
    return [
        *lines[:number],
        msgspec.json.encode(msgspec.json.decode(lines[number]) | fields),
        *lines[number + 1 :],
    ]


async def verified(stable, *notes, keys=(ACME,), decisions=()):
    outside = [Outside(f"note {number}", note) for number, note in enumerate(notes, 1)]
    verifier = Verifier(keys=keys, outside=outside, decisions=decisions, is_store=True)
    return {check.name: check for check in await verify_store(stable.store, stable.tree, "acme", verifier)}


def failures(checks):
    return {name for name, check in checks.items() if check.outcome == "fails"}


# What is untouched


async def test_everything_holds_of_a_file_that_nobody_touched(url):
    stable = await busy(url)
    lines = await stable.lines()
    checks = judged(lines, Verifier(keys=[ACME], decisions=[("ses_long", 7)]))
    assert {name for name, check in checks.items() if check.outcome != "holds"} == {"rewritten"}
    assert '"bale":7' in checks["decision ses_long/7"].found
    kept = Outside("kept", msgspec.json.decode(lines[1])["note"])
    checks = judged(lines, Verifier(keys=[ACME], outside=[kept]))
    assert {check.outcome for check in checks.values()} == {"holds"}
    await stable.parts.close()


async def test_everything_holds_of_a_store_that_nobody_touched(url):
    stable = await busy(url)
    notes = [(await stable.sign()).note for _ in range(2)]
    checks = await verified(stable, *notes, decisions=[("ses_day1", 1)])
    assert failures(checks) == set()
    assert (
        checks["signatures"].outcome == "unchecked"
    )  # the last event, which is the last checkpoint, is not signed for
    await stable.parts.close()


async def test_a_period_is_cut_at_checkpoints_and_holds_whole_sessions():
    stable = await busy()
    lines = await stable.lines(from_us=day(stable, 2), to_us=day(stable, 3) - DAY_US // 2)
    header = msgspec.json.decode(lines[0])
    assert (header["start"], header["end"], header["size"]) == (15, 31, 47)
    shown = [msgspec.json.decode(lines[number]) for number in of_kind(lines, "event")]
    assert {one["stream"] for one in shown} == {"ses_long", "ses_day2", "audit"}
    assert [one["seq"] for one in shown if one["stream"] == "ses_long"] == list(range(1, 13))
    assert failed(lines) == set()


async def test_single_sessions_are_shown_from_their_first_event_and_nothing_is_said_of_others():
    stable = await busy()
    lines = await stable.lines(sessions=["ses_day1", "ses_day3"])
    checks = judged(lines)
    assert failures(checks) == set()
    assert checks["period"].outcome == "unchecked"
    assert len(of_kind(lines, "event")) == 18 + 2  # and the checkpoints that were signed before the last one
    assert max(len(line) for line in lines) < 2_000
    only_first = await stable.lines(sessions=["ses_day1"], to_us=day(stable, 2))
    assert len(of_kind(only_first, "event")) == 9 + 2
    assert failed(only_first) == set()
    with pytest.raises(NotFound):
        await stable.lines(sessions=["ses_nobody"])


async def test_what_is_not_signed_for_yet_is_not_exported():
    stable = await Stable.open("memory:")
    await stable.write("ses_1")
    with pytest.raises(Conflict, match="Nothing was signed"):
        await stable.lines()
    await stable.sign()
    with pytest.raises(Conflict, match="older than the end"):
        await stable.lines(to_us=stable.clock.us + 1)
    with pytest.raises(UsageError, match="ends before"):
        await stable.lines(from_us=2, to_us=1)
    await stable.write("ses_2")
    await stable.erase("ses_1")
    with pytest.raises(Conflict, match="removed or erased"):
        await stable.lines()


async def test_an_empty_log_can_be_signed_for_and_verified():
    stable = await Stable.open("memory:")
    first = await stable.sign()
    assert first.size == 0
    assert judged(await stable.lines())["tree"].outcome == "holds"
    await stable.write("ses_1")
    assert failures(await verified(stable, first.note)) == set()


async def test_what_was_removed_or_erased_is_accounted_for(url):
    stable = await busy(url)
    notes = [(await stable.sign()).note]
    await stable.remove("ses_day1")
    await stable.erase("ses_day2")
    notes.append((await stable.sign()).note)
    checks = await verified(stable, *notes)
    assert failures(checks) == set()
    assert checks["removed"].found.startswith("9 events gone from the log, 9 accounted for")
    assert checks["erased"].found.startswith("1 session erased")
    checks = judged(await stable.lines())
    assert failures(checks) == set()
    for to_us in (day(stable, 2), None):
        assert failed(await stable.lines(from_us=day(stable, 1), to_us=to_us)) == set()
    await stable.parts.close()


# A file that was tampered with


async def test_every_byte_of_every_line_matters():
    stable = await busy()
    lines = await stable.lines()
    for number in range(1, len(lines), 7):
        text = lines[number]
        for place in range(0, len(text), 5):
            changed = bytes([text[place] ^ 1])
            forged = [*lines[:number], text[:place] + changed + text[place + 1 :], *lines[number + 1 :]]
            try:
                # The last bits of base64 may say nothing.
                assert failed(forged) or same(forged[number], lines[number]), forged[number]
            except UsageError:
                continue


def same(one, other):
    return msgspec.json.encode(decode(one)) == msgspec.json.encode(decode(other))


async def test_a_changed_event_is_found():
    stable = await busy()
    lines = await stable.lines()
    number = of_kind(lines, "event")[5]
    forged = [*lines[:number], lines[number].replace(b"hay", b"oat"), *lines[number + 1 :]]
    checks = judged(forged)
    assert failures(checks) == {"chains"}
    line = msgspec.json.decode(lines[number])
    assert f"{line['stream']}: event {line['seq']} was altered" in checks["chains"].found


async def test_a_decision_that_was_changed_does_not_hold():
    stable = await busy()
    lines = await stable.lines()
    forged = [line.replace(b'"bale":7', b'"bale":8') for line in lines]
    assert "decision ses_long/7" in failed(forged, Verifier(keys=[ACME], decisions=[("ses_long", 7)]))
    assert "decision ses_long/99" in failed(lines, Verifier(keys=[ACME], decisions=[("ses_long", 99)]))


async def test_a_changed_event_with_a_chain_that_fits_is_found():
    stable = await busy()
    assert failed(rechained(await stable.lines(), b"hay", b"oat")) == {"tree", "growth"}


def rechained(lines, old, new):
    """Replace something in every event, and give each the hash that it would have had."""
    hashes: dict[StreamId, bytes] = {}
    for number in of_kind(lines, "event"):
        line = msgspec.json.decode(lines[number])
        data = msgspec.json.encode(line["event"]).replace(old, new)
        stream = StreamId("acme", line["stream"])
        hashes[stream] = link(hashes.get(stream, GENESIS), stream, line["seq"], line["at_us"], data)
        lines = altered(lines, number, event=msgspec.Raw(data), hash=hashes[stream].hex())
    return lines


async def test_a_dropped_event_is_found():
    stable = await busy()
    lines = await stable.lines()
    number = of_kind(lines, "event")[5]
    checks = judged([*lines[:number], *lines[number + 1 :]])
    assert failures(checks) == {"chains", "tree", "growth"}
    assert "46 of 47 leaves" in checks["tree"].found
    assert "is missing" in checks["chains"].found


async def test_an_event_that_was_hidden_is_found():
    stable = await busy()
    lines = await stable.lines()
    number = of_kind(lines, "event")[-5]
    leaf = await stable.tree.roots_of(
        "acme", (number - of_kind(lines, "event")[0], number - of_kind(lines, "event")[0] + 1)
    )
    hidden = msgspec.json.encode({"line": "hidden", "leaves": 1, "roots": leaf})
    checks = judged([*lines[:number], hidden, *lines[number + 1 :]])
    assert checks["tree"].outcome == "holds"
    assert {"period"} <= failures(checks)
    assert "1 event of" in checks["period"].found


async def test_a_period_that_is_not_cut_at_checkpoints_is_found():
    stable = await busy()
    lines = await stable.lines()
    assert failed(altered(lines, 0, start=16)) == {"period"}
    assert failed(altered(lines, 0, end=48)) == {"period"}
    assert failed(altered(lines, 0, start=47, end=31)) == {"period"}
    assert failed(altered(lines, 0, size=48)) > {"tree", "growth"}


async def test_an_event_that_is_passed_off_as_removed_is_found():
    stable = await busy()
    lines = await stable.lines()
    number = of_kind(lines, "event")[-5]
    gone = {"line": "gone", "hashes": [bytes.fromhex(msgspec.json.decode(lines[number])["hash"])]}
    checks = judged([*lines[:number], msgspec.json.encode(gone), *lines[number + 1 :]])
    assert "removed" in failures(checks)
    assert "1 event gone from the log, 0 accounted for" in checks["removed"].found


async def test_content_that_is_passed_off_as_erased_is_found():
    stable = await busy()
    lines = await stable.lines()
    for number in of_kind(lines, "event"):
        if b'"ses_day3"' in lines[number]:
            lines = altered(lines, number, event={"type": "event.erased"})
    assert failed(lines) == {"erased"}
    (first, *_) = [number for number in of_kind(lines, "event") if b'"ses_day2"' in lines[number]]
    assert "not all" in judged(altered(lines, first, event={"type": "event.erased"}))["erased"].found


async def test_erased_events_of_memories_are_accounted_for_one_by_one(url):
    stable = await busy(url)
    await stable.write("memory/user/1", 4)
    await stable.sign()
    await stable.erase_events("memory/user/1", 2, 3)
    with pytest.raises(Conflict, match="removed or erased"):
        await stable.lines()
    await stable.sign()
    lines = await stable.lines()
    assert failed(lines) == set()
    assert judged(lines)["erased"].found.startswith("0 sessions and 2 events of memories erased")
    assert failed(await stable.lines(to_us=day(stable, 2))) == set()
    events = [(number, msgspec.json.decode(lines[number])) for number in of_kind(lines, "event")]
    last = [number for number, one in events if one["stream"] == "memory/user/1"][-1]
    checks = judged(altered(lines, last, event={"type": "event.erased"}))
    assert "memory/user/1: the content of event 4 is gone" in checks["erased"].found
    await stable.parts.close()


async def test_a_tail_that_was_cut_off_is_found():
    stable = await busy()
    lines = await stable.lines()
    checks = judged(lines[:-3])
    assert {"tree", "growth"} <= failures(checks)
    assert "44 of 47 leaves" in checks["tree"].found


async def test_two_streams_that_were_swapped_are_found():
    stable = await busy()
    swapped = {b'"stream":"ses_day1"': b'"stream":"ses_day2"', b'"stream":"ses_day2"': b'"stream":"ses_day1"'}
    lines = []
    for line in await stable.lines():
        for old, new in swapped.items():
            if old in line:
                lines.append(line.replace(old, new))
                break
        else:
            lines.append(line)
    assert failed(lines) == {"chains"}


async def test_two_events_that_changed_places_are_found():
    stable = await busy()
    lines = await stable.lines()
    one = of_kind(lines, "event")[4]
    lines[one], lines[one + 2] = lines[one + 2], lines[one]
    assert {"tree", "growth"} <= failed(lines)


async def test_a_wrong_key_is_found():
    stable = await busy()
    lines = await stable.lines()
    assert failed(lines, Verifier(keys=[STRANGER.verifier("acme")])) == {"signatures"}
    assert failed(lines, Verifier(keys=[STRANGER.verifier("acme"), ACME])) == set()
    assert judged(lines, Verifier())["signatures"].outcome == "unchecked"


async def test_a_file_whose_signatures_were_taken_away_is_found():
    stable = await busy()
    lines = await stable.lines()
    for number in of_kind(lines, "root"):
        lines = altered(lines, number, note="")
    assert failed(lines) == {"signatures"}


async def test_a_checkpoint_that_says_something_else_than_the_file_is_found():
    stable = await busy()
    lines = await stable.lines()
    first, second, _ = of_kind(lines, "root")
    note = msgspec.json.decode(lines[second])["note"]
    assert "says something else" in judged(altered(lines, first, note=note))["signatures"].found
    assert "no signed note" in judged(altered(lines, first, note="x"))["signatures"].found


async def test_the_proof_of_another_tenant_is_found():
    stable = await busy()
    rivals = await stable.sign("rival")
    theirs = await stable.lines(tenant="rival")
    assert failed(theirs, Verifier(keys=[KEY.verifier("rival")])) == set()
    assert failed(theirs) == {"signatures"}
    renamed = [theirs[0].replace(b"rival", b"acme"), *theirs[1:]]
    assert {"chains", "signatures"} <= failed(renamed)
    own = await stable.lines()
    checks = judged(own, Verifier(keys=[ACME], outside=[Outside("theirs", rivals.note)]))
    assert failures(checks) == {"checkpoint theirs"}
    assert "another log" in checks["checkpoint theirs"].found


async def test_a_checkpoint_from_elsewhere_that_is_ahead_of_a_file_is_found():
    stable = await busy()
    lines = await stable.lines()
    await stable.write("ses_4", 5)
    later = await stable.sign()
    checks = judged(lines, Verifier(keys=[ACME], outside=[Outside("later", later.note)]))
    assert failures(checks) == {"checkpoint later"}
    assert "cut short" in checks["checkpoint later"].found


async def test_a_file_whose_whole_history_is_another_is_found_only_by_a_checkpoint_from_elsewhere():
    told, true = await busy(), await busy()
    kept = await true.sign()
    await told.write("ses_lie", 3)
    await told.sign()
    lines = await told.lines()
    assert failed(lines) == set()
    checks = judged(lines, Verifier(keys=[ACME], outside=[Outside("kept", kept.note)]))
    assert failures(checks) == {"checkpoint kept"}


async def test_a_checkpoint_from_elsewhere_must_be_signed():
    stable = await busy()
    lines = await stable.lines()
    text = msgspec.json.decode(lines[1])["note"].rpartition("\n\n")[0] + "\n"
    for note in (STRANGER.sign(text, "acme"), SigningKey("other.example", KEY.seed).sign(text, "acme"), text):
        assert failed(lines, Verifier(keys=[ACME], outside=[Outside("it", note)])) == {"checkpoint it"}
    assert failed(lines, Verifier(keys=[ACME], outside=[Outside("it", KEY.sign(text, "acme"))])) == set()


@pytest.mark.parametrize("lines", [[], [b"x"], [b"{}"], [b'{"line":"hidden","leaves":1,"roots":[]}']])
async def test_what_is_no_audit_file_is_refused(lines):
    with pytest.raises(UsageError):
        judged(lines)


async def test_lines_that_nobody_writes_are_refused():
    stable = await busy()
    lines = await stable.lines()
    header = msgspec.json.decode(lines[0])
    for forged in (
        [*lines, lines[0]],
        [msgspec.json.encode(header | {"version": 2})],
        [lines[0], b'{"line":"hidden","leaves":3,"roots":[]}'],
        altered(lines, 0, size=-1),
        altered(lines, of_kind(lines, "event")[0], hash="00"),
    ):
        with pytest.raises(UsageError):
            judged(forged)


# A store that was tampered with


@pytest.fixture
async def stable(tmp_path):
    stable = await busy(f"sqlite:///{tmp_path}/ostler.db")
    stable.path = tmp_path / "ostler.db"
    yield stable
    await stable.parts.close()


def by_hand(stable, *statements):
    with closing(sqlite3.connect(stable.path)) as hand:
        for statement in statements:
            hand.execute(statement)
        hand.commit()
    stable.tree = type(stable.tree)(stable.store, stable.parts.views)


async def test_an_event_that_was_changed_by_hand_is_found(stable):
    by_hand(stable, "UPDATE events SET data = CAST(replace(data, 'hay', 'oat') AS BLOB) WHERE position = 4")
    assert failures(await verified(stable)) == {"chains"}


async def test_an_event_whose_hash_was_changed_by_hand_too_is_found(stable):
    by_hand(stable, "UPDATE events SET hash = zeroblob(32) WHERE position = 4")
    with pytest.raises(StoreCorrupt, match="position 4"):
        await verified(stable)


async def test_an_event_that_was_deleted_by_hand_is_found(stable):
    by_hand(stable, "DELETE FROM events WHERE position = 4")
    assert failures(await verified(stable)) == {"chains", "removed"}


async def test_an_event_that_was_put_in_between_by_hand_is_found(stable):
    by_hand(
        stable,
        "UPDATE events SET position = 1000 WHERE position = 4",
        "UPDATE events SET position = 4 WHERE position = 5",
    )
    with pytest.raises(StoreCorrupt, match="position 4"):
        await verified(stable)


async def test_a_store_whose_tail_was_cut_off_by_hand_is_found(stable):
    by_hand(stable, "DELETE FROM events WHERE position > 52")
    checks = await verified(stable)
    assert failures(checks) == {"removed"}
    await stable.write("ses_new", 1)  # at a position that the tree knows to be another's
    with pytest.raises(StoreCorrupt, match="not what stood there"):
        await verified(stable)


async def test_a_store_whose_tail_was_cut_off_with_its_tree_is_found_by_a_checkpoint_from_elsewhere(stable):
    kept = await stable.sign()
    by_hand(
        stable,
        "DELETE FROM events WHERE position > 20",
        "DELETE FROM view_rows",
        "DELETE FROM views",
    )
    checks = await verified(stable)
    assert failures(checks) == set()
    checks = await verified(stable, kept.note)
    assert failures(checks) == {"checkpoint note 1"}
    assert "cut short" in checks["checkpoint note 1"].found


async def test_a_store_that_was_written_anew_is_found_by_a_checkpoint_from_elsewhere(stable, tmp_path):
    kept = await stable.sign()
    other = await Stable.open(f"sqlite:///{tmp_path}/other.db")
    await other.write("ses_lie", 100)
    await other.sign()
    assert failures(await verified(other)) == set()
    checks = await verified(other, kept.note)
    assert failures(checks) == {"checkpoint note 1"}
    assert "rewritten" in checks["checkpoint note 1"].found
    await other.parts.close()


async def test_nothing_is_signed_that_contradicts_the_last_checkpoint(stable):
    position = await stable.tree.catch_up()
    by_hand(stable, "DELETE FROM view_rows", "DELETE FROM views", "DELETE FROM events WHERE position = 4")
    assert await stable.parts.views.position(VIEW) == 0 < position
    with pytest.raises(StoreCorrupt, match="no longer the one"):
        await stable.sign()


async def test_checkpoints_are_events_that_say_the_size_before_them(stable):
    before = (await stable.tree.frontier("acme")).size
    signed = await stable.sign()
    assert signed.size == before + 1  # and the checkpoint before, which was not in the tree yet
    await stable.tree.catch_up()
    assert (await stable.tree.frontier("acme")).size == signed.size + 1
