"""Terms are those of SQLite's own tokenizer, and better where it has none."""

import re
import sqlite3
from pathlib import Path

import pytest

from ostler.adapters.index.stemming import TERM_MAX, stem, terms

ROOT = Path(__file__).parents[3]
DIFFERENT = {"eed", "ies", "sses"}
"""Mere endings, which are no words, and which SQLite does not take for words."""


def test_english_words_are_stemmed_as_sqlite_does_it() -> None:
    text = " ".join(file.read_text("utf-8") for file in sorted((ROOT / "docs").rglob("*.md")))
    words = sorted(set(re.findall(r"[a-z]+", text.casefold())) - DIFFERENT)
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE VIRTUAL TABLE texts USING fts5 (text, tokenize = 'porter unicode61')")
    connection.execute("CREATE VIRTUAL TABLE found USING fts5vocab (texts, 'instance')")
    connection.executemany("INSERT INTO texts (rowid, text) VALUES (?, ?)", list(enumerate(words)))
    expected = dict(connection.execute("SELECT doc, term FROM found"))
    connection.close()
    assert len(words) > 1_000
    assert {word: stem(word) for word in words} == {word: expected[number] for number, word in enumerate(words)}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        ("!? -- _", []),
        ("Running runs RUN", ["run", "run", "run"]),
        ("Café cafe\u0301 ÜBUNG", ["cafe", "cafe", "ubung"]),
        ("snake_case semi-colon 4711-A", ["snake", "case", "semi", "colon", "4711", "a"]),
        ("Straße \ufb01nd \u210ci", ["strass", "find", "hi"]),
        ("東京都 abc日本x 会", ["東京", "京都", "abc", "日本", "x", "会"]),
        ("Привет мир", ["привет", "мир"]),
        ("x" * 200, ["x" * TERM_MAX]),
    ],
)
def test_a_text_has_these_terms(text: str, found: list[str]) -> None:
    assert terms(text) == found


def test_whatever_is_looked_for_by_the_words_of_a_text_is_in_it() -> None:
    for text in ("Zażółć gęślą jaźń", "नमस्ते दुनिया", "한국어 단어", "ไทย"):
        assert set(terms(text.split()[0])) <= set(terms(text))
        assert terms(text)
