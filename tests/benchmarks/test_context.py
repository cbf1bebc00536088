"""What the model sees costs the same to keep, however long the session is."""

from benchmarks.context import measure


def test_a_step_and_its_request_cost_no_more_late_than_early() -> None:
    found = measure(steps=600)
    assert found.decide.ratio < 2
    assert found.request.ratio < 2
    assert found.compactions > 10
    assert found.body_bytes > 100_000
