"""The made-up years and what is said of them: the same for ever, and the page shows what the code would measure."""

import re

import pytest

from benchmarks.dialogues import CATEGORIES, year
from benchmarks.recall_quality import BEGIN, DEPTHS, END, PAGE, WAYS, measure, rows, table

ALONE_WAYS = ("words", "vectors (hashed words)", "relations")


def test_a_year_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    assert year(3, each=8) == year(3, each=8)
    assert year(3, each=8) != year(4, each=8)


@pytest.mark.parametrize("seed", range(3))
def test_a_year_has_hundreds_of_questions_of_all_kinds_whose_answers_are_told(seed: int) -> None:
    found = year(seed)
    assert len(found.questions) >= 500
    assert {one.category for one in found.questions} == set(CATEGORIES)
    ids = {told.id for told in found.told}
    assert len(ids) == len(found.told)
    assert all(part and part <= ids for one in found.questions for part in one.evidence)
    assert [told.happened_us for told in found.told] == sorted(told.happened_us for told in found.told)


@pytest.mark.parametrize("seed", range(3))
def test_the_last_home_that_is_told_is_the_one_that_is_asked_for(seed: int) -> None:
    found = year(seed, each=20)
    homes: dict[str, str] = {}
    for told in found.told:
        if told.relation is not None and told.relation.name == "lives in":
            homes[told.relation.subject] = told.id
    asked = [one for one in found.questions if one.category == "updated"]
    assert len(asked) == 20
    assert all(homes[re.findall(r"does (\w+) live", one.text)[0]] in one.evidence[0] for one in asked)


async def test_the_default_finds_more_than_each_way_alone() -> None:
    ways = {name: WAYS[name] for name in (*ALONE_WAYS, "default")}
    scored = {one.way: one for one in await measure([11], each=20, ways=ways)}
    default = scored["default"]
    for way in ALONE_WAYS:
        assert default.mrr > scored[way].mrr, way
        assert all(default.recall[depth] > scored[way].recall[depth] for depth in DEPTHS), way
    assert default.by_category["stated"] == default.by_category["numbered"] == 1
    assert default.by_category["connected"] > scored["words"].by_category["connected"] + 0.4


async def test_what_is_measured_of_the_same_year_is_the_same() -> None:
    ways = {"default": WAYS["default"]}
    assert await measure([1], each=4, ways=ways) == await measure([1], each=4, ways=ways)


async def test_the_page_shows_a_row_for_each_way_and_a_column_for_each_kind() -> None:
    shown = PAGE.read_text().partition(BEGIN)[2].partition(END)[0]
    fresh = table(rows(await measure([1], each=2)))
    assert _frame(shown) == _frame(fresh)
    assert len(_frame(shown)) == 2 * len(WAYS) + 2
    assert f"recall@{DEPTHS[-1]}" in shown


def _frame(text: str) -> list[str]:
    """The heads of the tables, and the first cell of each row."""
    lines = [line for line in text.splitlines() if line.startswith("|") and not line.startswith("|---")]
    return [line if "recall@10" in line else line.split("|")[1] for line in lines]
