"""Plain text tables."""

from collections.abc import Sequence


def render(rows: Sequence[Sequence[str]], header: Sequence[str] = (), width: int | None = None) -> str:
    """Rows under an optional header, columns aligned: numbers to the right, everything else to the left.

    `width` bounds the whole line; the last column gives way and shows with `…` that it did.
    """
    lines = [list(header), *map(list, rows)] if header else [list(row) for row in rows]
    if not lines:
        return ""
    columns = max(len(line) for line in lines)
    for line in lines:
        line.extend([""] * (columns - len(line)))
    widths = [max(len(line[column]) for line in lines) for column in range(columns)]
    if width is not None:
        used = sum(widths[:-1]) + 2 * (columns - 1)
        widths[-1] = max(1, min(widths[-1], width - used))
    right = [_is_numeric([row[column] for row in lines[1 if header else 0 :]]) for column in range(columns)]
    shown = ["  ".join(map(_cell, line, widths, right)).rstrip() for line in lines]
    if header:
        shown.insert(1, "  ".join("-" * size for size in widths))
    return "\n".join(shown)


def _cell(text: str, width: int, right: bool) -> str:
    if len(text) > width:
        text = text[: width - 1] + "…"
    return text.rjust(width) if right else text.ljust(width)


def _is_numeric(cells: Sequence[str]) -> bool:
    """Whether there are numbers here and nothing else."""
    filled = [cell for cell in cells if cell]
    return bool(filled) and all(cell.replace(".", "", 1).lstrip("-").isdecimal() for cell in filled)
