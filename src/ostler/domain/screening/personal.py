"""Detectors of personal data: by their form, and by their check digits where they have some.

A number is only found where it stands alone: not as part of a longer number, a word, a version or a path.
"""

import ipaddress
import re

from ostler.domain.screening.finding import Detector, Spans


def _emails(text: str) -> Spans:
    """Addresses with a dot in their domain (RFC 5321), but for `git@host:path` and names of image files."""
    at = text.find("@")
    while at >= 0:
        local = _LOCAL.match(text[max(0, at - 64) : at][::-1])
        domain = _DOMAIN.match(text, at + 1)
        if local and domain and domain[1].lower() not in _FILES:
            before = local[0].rstrip(".'-+")  # what a name does not begin with
            if before and not (before == "tig" and text.startswith(":", domain.end())):
                yield at - len(before), domain.end(), "pii.email"
        at = text.find("@", at + 1)


_LOCAL = re.compile(r"[\w.%+'-]{1,64}+")
_DOMAIN = re.compile(r"(?:[^\W_](?:[\w-]{0,61}+)\.){1,8}([^\W\d_]{2,24})(?![\w-])")
_FILES = frozenset(("css", "gif", "ico", "jpeg", "jpg", "js", "png", "svg", "webp"))


def _ibans(text: str) -> Spans:
    """Bank accounts (ISO 13616), by country, length and check digits; in small letters only with spaces between."""
    for match in _IBAN.finditer(text):
        size = _IBAN_SIZES.get(match[1].upper())
        if size is None:
            continue
        end, plain = _characters(text, match.start(), size)
        if len(plain) == size and _is_end(text, end) and (plain.isupper() or end - match.start() > size):
            digits = "".join(str(int(char, 36)) for char in plain[4:] + plain[:4])
            if int(digits) % 97 == 1:
                yield match.start(), end, "pii.iban"


_IBAN = re.compile(r"([A-Za-z](?<![A-Za-z0-9_].)[A-Za-z])[0-9]{2}(?=[ -]?[A-Za-z0-9])")
_COUNTRIES = {
    15: "NO",
    16: "BE",
    18: "DK FI FO GL NL SD",
    19: "MK SI",
    20: "AT BA EE KZ LT LU XK",
    21: "CH CR HR LI LV",
    22: "BG BH DE GB GE IE ME RS VA",
    23: "AE GI IL IQ OM SO TL",
    24: "AD CZ ES MD PK RO SA SE SK TN VG",
    25: "LY PT ST",
    26: "IS TR",
    27: "BI DJ FR GR IT MC MR SM",
    28: "AL AZ BY CY DO GT HN HU LB NI PL SV",
    29: "BR EG PS QA UA",
    30: "JO KW MU YE",
    31: "MT SC",
    32: "LC",
    33: "RU",
}
_IBAN_SIZES = {country: size for size, countries in _COUNTRIES.items() for country in countries.split()}


def _characters(text: str, start: int, count: int) -> tuple[int, str]:
    """Letters and digits from `start` on, `count` of them if they are there, with single spaces or hyphens between."""
    plain: list[str] = []
    position = start
    while len(plain) < count and position < len(text):
        char = text[position]
        if char in " -" and text[position - 1] not in " -":
            position += 1
            continue
        if not (char.isascii() and char.isalnum()):
            break
        plain.append(char)
        position += 1
    return position, "".join(plain)


def _is_end(text: str, end: int) -> bool:
    return _END.match(text, end) is not None


_END = re.compile(r"(?!\w|-\w)")


def _cards(text: str) -> Spans:
    """Numbers of payment cards (ISO/IEC 7812): the issuers' beginnings and lengths, grouped as on cards, and Luhn."""
    for match in _CARD.finditer(text):
        if _luhn(match[0]):
            yield *match.span(), "pii.card"


_CARD = re.compile(
    r"""(?=[2-6])[0-9](?<![\w.].)(?: (?<=4)[0-9]{3} | (?<=5)[1-5][0-9]{2} | (?<=2)[2-7][0-9]{2}
      | (?<=6)(?:011|[45][0-9]{2}|2[0-9]{2}) | (?<=3)5(?:2[89]|[3-8][0-9]) )
      ([ .-]?)[0-9]{4}\1[0-9]{4}\1[0-9]{4}(?![0-9A-Za-z_]|[.-][0-9])
    | 3(?<![\w.].)(?:[47][0-9]{2}([ .-]?)[0-9]{6}\2[0-9]{5}|(?:0[0-5]|[689][0-9])[0-9]([ .-]?)[0-9]{6}\3[0-9]{4})
      (?![0-9A-Za-z_]|[.-][0-9])""",
    re.VERBOSE,
)


def _luhn(number: str) -> bool:
    digits = [int(char) for char in reversed(number) if char.isdigit()]
    doubled = (digit * 2 for digit in digits[1::2])
    return (sum(digits[::2]) + sum(digit - 9 if digit > 9 else digit for digit in doubled)) % 10 == 0


def _phones(text: str) -> Spans:
    """International numbers (ITU-T E.164, `+` or `00`), and the forms that are common in Europe and North America."""
    for pattern in (_PLUS, _NATIONAL, _AMERICAN):
        for match in pattern.finditer(text):
            count = sum(char.isdigit() for char in match[0])
            if (10 if match[0].lstrip("+").isdigit() else 8) <= count <= 15:
                yield *match.span(), "pii.phone"


_PLUS = re.compile(r"\+(?<![\w+.-].)[1-9](?:[ ./-]?\(?[0-9]\)?){6,15}+(?![\w:])")
_NATIONAL = re.compile(
    r"""0(?<![\w+./:-].)(?<![0-9][ ].)(?:
        0[1-9][0-9]{0,2}[ /-](?:[ ./()-]{0,2}[0-9]){6,14}+
      | (?=(?:[ ()/-]{0,3}[0-9]){8})(?![0-9]{4}-[0-9]{4}\b)
        [1-9][0-9]{1,4}\)?(?:\ ?[/-]\ ?|\ )[0-9]{2,8}(?:[ -][0-9]{2,5}){0,3}
      | [1-9](?:([ .-])[0-9]{2})(?:\1[0-9]{2}){3}
      )(?![\w:]|[.,/-][0-9])""",
    re.VERBOSE,
)
_AMERICAN = re.compile(
    r"""[2-9](?<![\w+./:].)(?<![^1]-.)[0-9]{2}
    (?:\)\ ?[2-9][0-9]{2}[ .-]|([ .-])[2-9][0-9]{2}\1)[0-9]{4}(?![\w:]|[.-][0-9])""",
    re.VERBOSE,
)


def _addresses(text: str) -> Spans:
    """IP addresses of hosts: not masks, loopback or link-local ones, nor what is said to be a version."""
    if "." in text:
        for match in _IPV4.finditer(text):
            if _is_host(match[0]) and not _is_version(text, match.start()):
                yield *match.span(), "pii.ip"
    if "::" in text or text.count(":") > 3:
        for match in _IPV6.finditer(text):
            if _is_ipv6(match[0]):
                yield *match.span(), "pii.ip"


_IPV4 = re.compile(r"[0-9](?<![\w.§-].)(?<!\w/.)[0-9]{0,2}(?:\.[0-9]{1,3}){3}(?!\w|[.-]\w)")
_IPV6 = re.compile(
    r"(?:[23](?<![\w:.].)[0-9A-Fa-f]{3}|[fF](?<![\w:.].)[cdCD][0-9A-Fa-f]{2}):[0-9A-Fa-f:]{2,35}+(?![\w:])"
)
_VERSION = re.compile(r"(?i:version|release|ver\.|v\.|==|~=|>=|<=|\^|oid|objectidentifier)[\"':=( ]{0,3}$")


def _is_host(address: str) -> bool:
    octets = [int(octet) for octet in address.split(".")]
    return max(octets) <= 255 and octets[0] not in (0, 127, 255) and octets[:2] != [169, 254]


def _is_version(text: str, start: int) -> bool:
    return _VERSION.search(text[max(0, start - 20) : start]) is not None


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _social_security_numbers(text: str) -> Spans:
    """Numbers of the United States' social security: `123-45-6789`, or without hyphens after their name."""
    for pattern in (_SSN, _NAMED_SSN):
        for match in pattern.finditer(text):
            area, group, serial = match.group(1, 2, 3)
            if area not in ("000", "666") and area < "900" and group != "00" and serial != "0000":
                yield match.start(1), match.end(), "pii.ssn"


_SSN = re.compile(r"([0-9](?<![\w.+-].)[0-9]{2})-([0-9]{2})-([0-9]{4})(?!\w|-\w)")
_NAMED_SSN = re.compile(
    r"(?:SSN|ssn|[Ss]ocial [Ss]ecurity)(?: number| no\.?)?\W{1,4}([0-9]{3})[ -]?([0-9]{2})[ -]?([0-9]{4})(?!\w|-\w)"
)


PERSONAL: dict[str, Detector] = {
    "pii.card": _cards,
    "pii.email": _emails,
    "pii.iban": _ibans,
    "pii.ip": _addresses,
    "pii.phone": _phones,
    "pii.ssn": _social_security_numbers,
}
"""By name. Each finds things of the kind that it is called by."""
