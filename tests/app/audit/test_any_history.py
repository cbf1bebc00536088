"""Whatever happened to a log in good order, every part of it that can be taken along is proved, and nothing fails."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from ostler.app.audit.verify import Outside, Verifier, verify_store
from tests.app.audit.stable import DAY_US, KEY, Stable, failed

ACME = KEY.verifier("acme")
NAMES = [f"ses_{letter}" for letter in "abcd"]
STEPS = st.one_of(
    st.tuples(st.just("write"), st.sampled_from(NAMES)),
    st.tuples(st.sampled_from(["remove", "erase"]), st.sampled_from(NAMES)),
    st.tuples(st.just("sign"), st.just("")),
)


@given(st.lists(STEPS, max_size=25), st.integers(0, 25), st.integers(0, 25))
@settings(max_examples=150, deadline=None)
def test_every_part_of_every_history_is_proved(steps, start, length):
    assert asyncio.run(lived_through(steps, start, length)) > 0


async def lived_through(steps, start, length):
    stable = await Stable.open("memory:")
    began_us, notes, erased = stable.clock.us, [], set()
    for step, name in steps:
        present = await stable.store.streams("acme", prefix=name) if name else []
        if step == "sign":
            notes.append(await stable.sign())
        elif step == "write" and name not in erased:
            await stable.write(name, 2)
            await stable.write("ses_rival", 1, tenant="rival")
        elif step in ("remove", "erase") and present and name not in erased:
            await stable.tree.catch_up()
            await (stable.remove(name) if step == "remove" else stable.erase(name))
            erased |= {name} if step == "erase" else set()
        stable.clock.us += DAY_US
    notes.append(await stable.sign())
    outside = [Outside(str(number), note.note) for number, note in enumerate(notes)]
    checks = await verify_store(
        stable.store, stable.tree, "acme", Verifier(keys=[ACME], outside=outside, is_store=True)
    )
    assert [check for check in checks if check.outcome == "fails"] == []
    start_us = began_us + start * DAY_US
    for from_us, to_us in ((None, None), (start_us, None), (None, stable.clock.us), (start_us, stable.clock.us)):
        if from_us is None or to_us is None or from_us < to_us:
            end_us = min(to_us, (from_us or began_us) + (length + 1) * DAY_US) if to_us else None
            lines = await stable.lines(from_us=from_us, to_us=end_us)
            assert failed(lines, Verifier(keys=[ACME], outside=outside)) == set()
    for info in await stable.store.streams("acme", prefix="ses_"):
        assert failed(await stable.lines(sessions=[info.stream.name])) == set()
    return len(checks)
