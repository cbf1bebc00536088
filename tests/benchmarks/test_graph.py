"""The benchmark of the knowledge graph runs, and what is asked through it costs little more than the bare library."""

from benchmarks.graph import drawn, measured


async def test_a_small_graph_is_measured_and_neighbourhoods_and_ways_cost_little() -> None:
    found = {one.name: one for one in await measured(2_000, 10_000)}
    assert [name for name, one in found.items() if one.ratio is not None] == ["breadth_first", "cheapest"]
    assert found["neighbourhood, 3 steps"].median_ms < 50
    assert found["load from the index into the engine"].median_ms < 5_000
    assert all(one.median_ms > 0 for one in found.values())


def test_the_graphs_that_are_measured_are_the_same_each_time() -> None:
    assert drawn(300, 900) == drawn(300, 900)
    assert len(drawn(300, 900)) == 900
