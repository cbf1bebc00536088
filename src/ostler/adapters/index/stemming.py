"""Words as an index of texts knows them: without case, accents and English endings."""

import re
import unicodedata
from functools import lru_cache

TERM_MAX = 64
"""Longer runs of letters and digits are cut: they are no words."""

_RUNS = re.compile(r"[^\W_]+")
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+")
"""Scripts without spaces between words: kana and Han."""

_STEP_2 = {
    "ational": "ate",
    "tional": "tion",
    "enci": "ence",
    "anci": "ance",
    "izer": "ize",
    "bli": "ble",
    "alli": "al",
    "entli": "ent",
    "eli": "e",
    "ousli": "ous",
    "ization": "ize",
    "ation": "ate",
    "ator": "ate",
    "alism": "al",
    "iveness": "ive",
    "fulness": "ful",
    "ousness": "ous",
    "aliti": "al",
    "iviti": "ive",
    "biliti": "ble",
    "logi": "log",
}
_STEP_3 = {"icate": "ic", "ative": "", "alize": "al", "iciti": "ic", "ical": "ic", "ful": "", "ness": ""}
_STEP_4 = (
    *("al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "sion", "tion", "ou", "ism"),
    *("ate", "iti", "ous", "ive", "ize"),
)


def terms(text: str) -> list[str]:
    """The terms of a text, in order; of scripts without spaces each two neighbours."""
    plain = text.casefold()
    if not plain.isascii():
        parts = unicodedata.normalize("NFKD", plain).casefold()
        plain = "".join(letter for letter in parts if unicodedata.category(letter) != "Mn")
    runs = _RUNS.findall(plain)
    if plain.isascii():
        return [stem(run[:TERM_MAX]) for run in runs]
    return [term for run in runs for term in _parted(run)]


def _parted(run: str) -> list[str]:
    found, end = list[str](), 0
    for unspaced in _UNSPACED.finditer(run):
        if unspaced.start() > end:
            found.append(stem(run[end : unspaced.start()][:TERM_MAX]))
        signs, end = unspaced.group(), unspaced.end()
        found += [signs[at : at + 2] for at in range(max(1, len(signs) - 1))]
    if end < len(run):
        found.append(stem(run[end:][:TERM_MAX]))
    return found


@lru_cache(maxsize=1 << 16)
def stem(word: str) -> str:
    """An English word without its ending (M. F. Porter, An algorithm for suffix stripping, 1980); others stay."""
    if len(word) < 3 or not word.isascii() or not word.isalpha():
        return word
    word = _participles(_plurals(word))
    if word.endswith("y") and "v" in _shape(word[:-1]):
        word = word[:-1] + "i"
    word = _replaced(word, _STEP_2)
    word = _replaced(word, _STEP_3)
    return _final(_suffixes(word))


def _plurals(word: str) -> str:
    if word.endswith(("sses", "ies")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


def _participles(word: str) -> str:
    if word.endswith("eed"):
        return word[:-1] if _measure(word[:-3]) > 0 else word
    for ending in ("ed", "ing"):
        if word.endswith(ending) and "v" in _shape(word[: -len(ending)]):
            return _mended(word[: -len(ending)])
    return word


def _mended(word: str) -> str:
    if word.endswith(("at", "bl", "iz")):
        return word + "e"
    if _is_doubled(word) and word[-1] not in "lsz":
        return word[:-1]
    return word + "e" if _measure(word) == 1 and _is_short(word) else word


def _replaced(word: str, endings: dict[str, str]) -> str:
    """The longest of these endings replaced, after a stem with at least one syllable."""
    ending = max((ending for ending in endings if word.endswith(ending)), key=len, default="")
    stays = word[: len(word) - len(ending)]
    return stays + endings[ending] if ending and _measure(stays) > 0 else word


def _suffixes(word: str) -> str:
    ending = max((ending for ending in _STEP_4 if word.endswith(ending)), key=len, default="")
    stays = word[: len(word) - len(ending)] + (ending[0] if ending.endswith("ion") else "")
    return stays if ending and _measure(stays) > 1 else word


def _final(word: str) -> str:
    if word.endswith("e"):
        measure = _measure(word[:-1])
        if measure > 1 or (measure == 1 and not _is_short(word[:-1])):
            word = word[:-1]
    return word[:-1] if word.endswith("ll") and _measure(word) > 1 else word


def _shape(word: str) -> str:
    """A letter for each: `v` for a vowel, `c` for a consonant."""
    shape = ""
    for letter in word:
        is_vowel = letter in "aeiou" or (letter == "y" and shape.endswith("c"))
        shape += "v" if is_vowel else "c"
    return shape


def _measure(word: str) -> int:
    """How often consonants follow vowels: about the number of syllables."""
    return _shape(word).count("vc")


def _is_doubled(word: str) -> bool:
    return len(word) > 1 and word[-1] == word[-2] and _shape(word)[-1] == "c"


def _is_short(word: str) -> bool:
    return _shape(word).endswith("cvc") and word[-1] not in "wxy"
