"""The results as a picture: bars on a logarithmic scale, in SVG, legible on light and on dark pages."""

import math
from collections.abc import Sequence
from html import escape

from benchmarks.peers.measure import Row
from benchmarks.peers.page import Results

WIDTH, LABEL, RIGHT = 880, 280, 70
BAR, GAP, TITLE = 16, 6, 34
STYLE = """
    text { font: 13px system-ui, sans-serif; fill: #1f2328 }
    .title { font-weight: 600 }
    .faint { fill: #59636e; font-size: 11px }
    .line { stroke: #d1d9e0 }
    .other { fill: #8c959f }
    .floor { fill: #c8ccd1 }
    .ours { fill: #0969da }
    @media (prefers-color-scheme: dark) {
      text { fill: #f0f6fc }
      .faint { fill: #9198a1 }
      .line { stroke: #3d444d }
      .other { fill: #656c76 }
      .floor { fill: #3d444d }
      .ours { fill: #4493f8 }
    }
"""

Bars = list[tuple[str, float, str]]
"""A label, a value in µs, and a class of the style."""


def picture(results: Results) -> str:
    """CPU of a step, worker and server, for each load."""
    panels = [
        ("One session of 400 steps: CPU of a step, µs", _durable(results.lone)),
        ("200 sessions of 50 steps at once: CPU of a step, µs", _durable(results.together)),
        ("50 steps in turn, beside loops that keep nothing: CPU of a step, µs", _loops(results.loops)),
    ]
    body: list[str] = []
    top = 8
    for title, bars in panels:
        if bars:
            lines, top = _panel(title, bars, top)
            body += lines
    inner = "\n  ".join(body)
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" role="img" aria-label="CPU of a step">
  <style>{STYLE}  </style>
  {inner}
</svg>
"""


def _durable(rows: Sequence[Row]) -> Bars:
    return [(row.contender.title, row.cost.cpu_all_us, _class(row)) for row in rows if row.cost]


def _loops(rows: Sequence[Row]) -> Bars:
    lengths = {row.steps for row in rows}
    chosen = 50 if 50 in lengths else max(lengths, default=0)
    return [(row.contender.title, row.cost.cpu_us, _class(row)) for row in rows if row.cost and row.steps == chosen]


def _class(row: Row) -> str:
    return {"ostler": "ours", "floor": "floor"}.get(row.contender.module, "other")


def _panel(title: str, bars: Bars, top: int) -> tuple[list[str], int]:
    """The elements of one group of bars, and where the next one begins."""
    low = math.floor(math.log10(min(value for _, value, _ in bars)))
    high = math.ceil(math.log10(max(value for _, value, _ in bars)))
    scale = (WIDTH - LABEL - RIGHT) / max(1, high - low)
    bottom = top + TITLE + len(bars) * (BAR + GAP)
    elements = [f'<text class="title" x="8" y="{top + 16}">{escape(title)}</text>']
    for power in range(low, high + 1):
        x = LABEL + (power - low) * scale
        elements.append(f'<line class="line" x1="{x:.0f}" x2="{x:.0f}" y1="{top + TITLE - 4}" y2="{bottom}"/>')
        elements.append(f'<text class="faint" x="{x:.0f}" y="{bottom + 12}" text-anchor="middle">{10**power:,g}</text>')
    for number, (label, value, kind) in enumerate(bars):
        y = top + TITLE + number * (BAR + GAP)
        length = max(2.0, (math.log10(value) - low) * scale)
        elements += [
            f'<text x="{LABEL - 8}" y="{y + BAR - 3}" text-anchor="end">{escape(label)}</text>',
            f'<rect class="{kind}" x="{LABEL}" y="{y}" width="{length:.0f}" height="{BAR}" rx="2"/>',
            f'<text class="faint" x="{LABEL + length + 6:.0f}" y="{y + BAR - 3}">{value:,.0f}</text>',
        ]
    return elements, bottom + 30
