"""Search for words, ranked by BM25, which the server does not have: it is computed from what it has."""

import re
import unicodedata
from collections.abc import Sequence

from ostler.adapters.index.postgres_reading import Question

_WORD = re.compile(r"[^\W_]+")

K1 = 1.2
B = 0.75
"""Robertson and Zaragoza, The Probabilistic Relevance Framework (2009); as SQLite has them."""
WORDS_MAX = 16_000
"""Words of one text that can be looked for: the index counts no further than 16,383."""

SEARCH = """
    , asked AS MATERIALIZED (
        SELECT {terms}, (SELECT string_agg('''@' || key || '''', '|') FROM looked)::tsquery AS scopes
    )
    , hits AS MATERIALIZED (
        SELECT m.key, m.scope, m.length, {frequencies} FROM @schema.memories AS m
        WHERE m.words @@ (SELECT scopes && ({either}) FROM asked)
          AND m.scope = ANY (ARRAY(SELECT key FROM looked)) AND {condition}
    )
    , whole AS MATERIALIZED (
        SELECT sum(episodes + facts + files + closed)::float8 AS size,
            sum(tokens) / sum(episodes + facts + files + closed)::float8 AS length
        FROM @schema.memory_scopes JOIN looked USING (key)
    )
    , weighed AS MATERIALIZED (SELECT {weights} FROM hits CROSS JOIN whole GROUP BY whole.size)
    , best AS (
        SELECT hits.key, {score} AS score FROM hits CROSS JOIN weighed CROSS JOIN whole
        ORDER BY score DESC, hits.key DESC LIMIT {limit}
    )
    SELECT looked.number, m.id, best.score FROM best JOIN @schema.memories AS m USING (key)
    JOIN looked ON looked.key = m.scope ORDER BY best.score DESC, m.position DESC
"""
TERM = "phraseto_tsquery('@schema.words', {value}) AS t{place}"
RANK = "nullif(ts_rank('{{1,1,1,1}}', m.words, (SELECT t{place} FROM asked)), 0)"
FREQUENCY = f"round(1 / (1.6449341 - 1.6449341 * {RANK}) - 0.5) AS f{{place}}"
"""How often a text has a word. What the server ranks by is `Σ 1/j² / 1.6449341` for `j` from 1 to that number, which is
all that it tells: the rest of this sum, to infinity, is about `1 / (number + ½)`."""
PRESENCE = "CASE WHEN m.words @@ (SELECT t{place} FROM asked) THEN float8 '1' END AS f{place}"
WEIGHT = "ln(1 + (greatest(size - count(f{place}), 0) + 0.5) / (count(f{place}) + 0.5)) AS w{place}"
LENGTH = f"float8 '{K1}' * (float8 '{1 - B}' + float8 '{B}' / whole.length * hits.length)"
SCORE = f"coalesce(w{{place}} * f{{place}} * float8 '{K1 + 1}' / (f{{place}} + {LENGTH}), 0)"


def words_of(text: str) -> list[str]:
    """The words of a text as the index has them: letters and digits, without case and marks."""
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).casefold())
    if not folded.isascii():
        folded = "".join(character for character in folded if not unicodedata.combining(character))
    return _WORD.findall(folded)


def search(question: Question, terms: Sequence[str], condition: str, *, limit: int) -> str:
    """The query for what holds one of these terms; "" if there is none among them.

    A term of several words is a phrase. Every text that holds a term is counted and weighed: so the work is that of the
    commonest ones.
    """
    phrases = [words for words in dict.fromkeys(tuple(words_of(term)) for term in terms) if words]
    if not phrases:
        return ""
    places = range(len(phrases))
    values = [question.put(" ".join(words)) for words in phrases]
    counted = [FREQUENCY if len(words) == 1 else PRESENCE for words in phrases]
    return SEARCH.format(
        terms=", ".join(TERM.format(value=value, place=place) for place, value in enumerate(values)),
        frequencies=", ".join(count.format(place=place) for place, count in enumerate(counted)),
        either=" || ".join(f"t{place}" for place in places),
        condition=condition,
        weights=", ".join(WEIGHT.format(place=place) for place in places),
        score=" + ".join(SCORE.format(place=place) for place in places),
        limit=question.put(limit),
    )
