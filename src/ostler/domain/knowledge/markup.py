"""Text in XML and SVG."""

import re

FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that no XML 1.0 can hold."""
REFERENCES = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\t": "&#9;", "\n": "&#10;", "\r": "&#13;"}
)
"""Tabs and breaks of lines, too: readers of XML leave none in an attribute as it is."""


def escaped(text: str) -> str:
    """Text as it may stand in an attribute or an element; characters that XML cannot hold become U+FFFD."""
    return FORBIDDEN.sub("\ufffd", text).translate(REFERENCES)
