"""Search for words, ranked by BM25, which the server does not have: it is computed from what it has."""

from collections.abc import Sequence

from ostler.adapters.index.postgres_reading import Question
from ostler.adapters.index.stemming import terms

K1 = 1.2
B = 0.75
"""Robertson and Zaragoza, The Probabilistic Relevance Framework (2009); as SQLite has them."""
WORDS_MAX = 16_000
"""Words of one text that can be looked for: the index counts no further than 16,383."""

SEARCH = """
    , asked AS MATERIALIZED (
        SELECT {terms},
            (SELECT string_agg('''@' || key || '''', '|') FROM looked)::tsquery && {either}::text::tsquery AS wanted
    )
    , hits AS MATERIALIZED (
        SELECT m.key, m.scope, m.length, {frequencies} FROM @schema.memories AS m
        WHERE m.words @@ (SELECT wanted FROM asked) AND m.scope = ANY (ARRAY(SELECT key FROM looked))
            AND {condition}
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
TERM = "{value}::text::tsquery AS t{place}"
RANK = "nullif(ts_rank('{{1,1,1,1}}', m.words, (SELECT t{place} FROM asked)), 0)"
FREQUENCY = f"round(1 / (1.6449341 - 1.6449341 * {RANK}) - 0.5) AS f{{place}}"
"""How often a text has a word. What the server ranks by is `Σ 1/j² / 1.6449341` for `j` from 1 to that number, which is
all that it tells: the rest of this sum, to infinity, is about `1 / (number + ½)`."""
WEIGHT = "ln(1 + (greatest(size - count(f{place}), 0) + 0.5) / (count(f{place}) + 0.5)) AS w{place}"
LENGTH = f"float8 '{K1}' * (float8 '{1 - B}' + float8 '{B}' / whole.length * hits.length)"
PART = f"w{{place}} * f{{place}} * float8 '{K1 + 1}' / (f{{place}} + {LENGTH})"


def tokens(text: str) -> list[str]:
    """The terms of a text that can be looked for, in order."""
    return terms(text)[:WORDS_MAX]


def vector(tokens: Sequence[str]) -> str:
    """Terms with their places, as the server reads them: they are letters and digits, which need no quotes."""
    return " ".join(f"{token}:{place}" for place, token in enumerate(tokens, 1))


def search(question: Question, words: Sequence[str], condition: str, *, limit: int) -> str:
    """The query for what holds one of these words; "" if there is none among them.

    Of a word of several terms all are to occur. Every text that holds a word is counted and weighed: so the work is
    that of the commonest ones.
    """
    asked = [found for found in dict.fromkeys(tuple(dict.fromkeys(terms(word))) for word in words) if found]
    if not asked:
        return ""
    places = {term: place for place, term in enumerate(dict.fromkeys(term for word in asked for term in word))}
    either = " | ".join("({})".format(" & ".join(f"'{term}'" for term in word)) for word in asked)
    score = " + ".join(f"coalesce({' + '.join(PART.format(place=places[term]) for term in word)}, 0)" for word in asked)
    return SEARCH.format(
        terms=", ".join(TERM.format(value=question.put(f"'{term}'"), place=place) for term, place in places.items()),
        either=question.put(either),
        frequencies=", ".join(FREQUENCY.format(place=place) for place in places.values()),
        condition=condition,
        weights=", ".join(WEIGHT.format(place=place) for place in places.values()),
        score=score,
        limit=question.put(limit),
    )
