"""What of a question is looked for: its words without those that every text has, and the names that may be in it."""

import re
import unicodedata

from ostler.domain.memory.memory import normal

TERMS_MAX = 24
"""Terms of one question; each costs as much as it is common."""
NAME_WORDS_MAX = 4
"""Words of the longest name of an entity that is looked for in a question."""
NAMED_WORDS_MAX = 64
"""Words of a question in which names are looked for."""

_WORD = re.compile(r"[^\W_]+(?:['’._\-/@:+#][^\W_]+)*[+#]*")
_PART = re.compile(r"[^\W\d_]+")
_DIGIT = re.compile(r"\d")
_MARKS = "'\"’‘“”.,;:!?()[]{}<>«»…"

STOP_WORDS = frozenset(
    re.findall(
        r"\w+",
        """
    a about above after again against all also am an and any are aren as at be because been before being below between
    both but by can cannot could couldn did didn do does doesn doing don down during each either else ever few for from
    further get gets getting give given go goes going gone got had hadn has hasn have haven having he her here hers
    herself him himself his how however i if in into is isn it its itself just let ll may me might mine more most much
    must my myself need no nor not now of off on once one only or other our ours ourselves out over own please re really
    said same say says shall shan she should shouldn so some something still such tell than that the their theirs them
    themselves then there these they thing things this those though through to too under until up upon us ve very was
    wasn we were weren what whatever when where whether which while who whom whose why will with won would wouldn yes
    yet you your yours yourself yourselves
        """,
    )
)
"""Words that nearly every English text has: they cost most to look for, and say least."""


def terms(question: str) -> tuple[str, ...]:
    """The words to look for, as they were written but for NFKC and case, each once; at most `TERMS_MAX`.

    A number, a date, an address or an id such as `INV-2024-001` is one term; other words that stand together are taken
    apart. Of more than there may be those are kept that tell most: with digits, then names, then the longest.
    """
    found: dict[str, tuple[bool, bool, int]] = {}
    for match in _WORD.finditer(unicodedata.normalize("NFKC", question)):
        has_digit = _DIGIT.search(match[0]) is not None
        for word in [match[0]] if has_digit else _PART.findall(match[0]):
            term = word.casefold()
            if term in STOP_WORDS or (len(term) == 1 and term.isascii() and not has_digit):
                continue
            found.setdefault(term, (has_digit, word[0].isupper(), len(word)))
    telling = sorted(found, key=lambda term: found[term], reverse=True)[:TERMS_MAX]
    kept = set(telling)
    return tuple(term for term in found if term in kept)


def names(question: str) -> tuple[str, ...]:
    """What may be the name of an entity in a question: each run of at most four words, as names are compared."""
    words = normal(question).split()[:NAMED_WORDS_MAX]
    found: dict[str, None] = {}
    for size in range(NAME_WORDS_MAX, 0, -1):
        for start in range(len(words) - size + 1):
            name = " ".join(words[start : start + size]).strip(_MARKS)
            for one in (name, name.removesuffix("'s").removesuffix("’s")):
                if one and one not in STOP_WORDS:
                    found[one] = None
    return tuple(found)
