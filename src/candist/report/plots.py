"""Small figures as SVG: pure functions from numbers to markup.

Colours are CSS variables of the page with a fallback, so that a figure follows light and dark mode and stands alone.
Every label is escaped. Widths are in units of a 420-wide box, which stays readable when scaled to a phone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from markupsafe import Markup, escape

from candist.report.wording import visible

WIDTH = 420
FONT = 13
#: Mean width of a character at `FONT`; only used to keep labels apart.
CHARACTER = 7.2

ACCENT = "var(--accent, #0072b2)"
INK = "var(--ink, #1c2126)"
MUTED = "var(--muted, #57606a)"
LINE = "var(--line, #d5dae0)"


def bars(title: str, rows: Sequence[tuple[str, int]], unit: str = "rows") -> Markup:
    """Horizontal bars, one a row: name, bar, count and share of the sum.

    Parameters
    ----------
    rows
        (name, count); names are cut to fit and given in full as a tooltip.
    """
    total = sum(count for _, count in rows)
    longest = max((count for _, count in rows), default=0)
    values = [f"{count:,} ({100 * count / total:.1f} %)" if total else f"{count:,}" for _, count in rows]
    left = min(150.0, 10 + CHARACTER * max((len(name) for name, _ in rows), default=0))
    right = 10 + CHARACTER * max((len(value) for value in values), default=0)
    room, step = WIDTH - left - right, 26
    parts = []
    for i, ((name, count), value) in enumerate(zip(rows, values, strict=True)):
        y, length = i * step, room * count / longest if longest else 0.0
        shown = shortened(name, int((left - 8) / CHARACTER))
        parts.append(group(tooltip(f"{name}: {value} {unit}"), text(left - 8, y + 17, shown, "end", INK)))
        parts.append(box(left, y + 4, max(length, 1.0), step - 9))
        parts.append(text(left + length + 6, y + 17, value, "start", MUTED))
    return figure(title, max(len(rows), 1) * step, parts)


def histogram(
    title: str,
    counts: Sequence[tuple[str, int]],
    x_axis: str,
    y_axis: str = "rows",
    ticks: Sequence[tuple[float, str]] = (),
) -> Markup:
    """Vertical bars.

    Parameters
    ----------
    counts
        (name of the bin, count).
    ticks
        (position in bins from the left edge, label); without any, each bin is named below its middle,
        as far as there is room.
    """
    height, top, bottom = 224, 24, 48
    steps = count_ticks(max((count for _, count in counts), default=0))
    left = 14 + CHARACTER * len(f"{steps[-1]:,}")
    room, floor = WIDTH - left - 20, height - bottom
    scale, wide = (floor - top) / steps[-1], room / max(len(counts), 1)
    parts = [text(left, 12, y_axis, "start", MUTED)]
    for step in steps:
        y = floor - step * scale
        parts += [line(left, y, WIDTH - 20, y), text(left - 6, y + 4, f"{step:,}", "end", MUTED)]
    for i, (name, count) in enumerate(counts):
        bar = box(left + i * wide + wide * 0.08, floor - count * scale, wide * 0.84, count * scale)
        parts.append(group(tooltip(f"{name}: {count:,} {y_axis}"), bar))
    names = [(i + 0.5, name) for i, (name, _) in enumerate(counts)]
    for position, label in ticks or thinned(names, wide):
        parts.append(text(left + position * wide, floor + 19, label, "middle", MUTED))
    parts.append(text(left + room / 2, height - 8, x_axis, "middle", INK))
    return figure(title, height, parts)


def reliability(title: str, curve: Iterable[tuple[float, float, int]]) -> Markup:
    """Share right against mean probability, a point a bin (its area by rows); on the diagonal both agree.

    Parameters
    ----------
    curve
        (mean probability, share right, rows).
    """
    points = list(curve)
    size, left, top = 330.0, 54.0, 12.0
    floor = top + size
    most = max((rows for _, _, rows in points), default=1)
    parts = []
    for percent in range(0, 101, 20):
        at = size * percent / 100
        parts += [line(left, floor - at, left + size, floor - at), line(left + at, top, left + at, floor)]
        parts.append(text(left - 6, floor - at + 4, f"{percent} %", "end", MUTED))
        parts.append(text(left + at, floor + 20, f"{percent} %", "middle", MUTED))
    parts.append(line(left, floor, left + size, top, MUTED, dashed=True))
    for probability, right, rows in points:
        tip = tooltip(f"probability {100 * probability:.1f} %, right {100 * right:.1f} %, {rows:,} rows")
        parts.append(group(tip, dot(left + size * probability, floor - size * right, 3 + 5 * math.sqrt(rows / most))))
    parts.append(text(left + size / 2, floor + 41, "probability (mean of the bin)", "middle", INK))
    middle = Markup('<g transform="translate(12 {:.1f}) rotate(-90)">{}</g>')
    parts.append(middle.format(top + size / 2, text(0, 0, "share of labels that are right", "middle", INK)))
    return figure(title, floor + 50, parts)


def count_ticks(most: int) -> list[int]:
    """Round counts from 0 to at least ``most``, 2 to 6 of them."""
    rough = max(most, 1) / 4
    power = 10 ** max(0, math.floor(math.log10(rough)))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough)
    return [step * i for i in range(math.ceil(max(most, 1) / step) + 1)]


def thinned(labels: Sequence[tuple[float, str]], wide: float) -> Sequence[tuple[float, str]]:
    """Every n-th label, so that neighbours do not touch when a bin is ``wide``."""
    longest = max((len(label) for _, label in labels), default=0)
    return labels[:: max(1, math.ceil((longest * CHARACTER + 6) / wide))]


def shortened(name: str, characters: int) -> str:
    """A name cut to at most ``characters``."""
    return name if len(name) <= characters else name[: characters - 1] + "…"


def figure(title: str, height: float, parts: Iterable[Markup]) -> Markup:
    """Wrap shapes as one figure with a title for those who do not see it."""
    frame = '<svg viewBox="0 0 {} {:.0f}" role="img" font-size="{}" font-family="inherit"><title>{}</title>{}</svg>'
    return Markup(frame).format(WIDTH, height, FONT, visible(title), Markup("").join(parts))


def tooltip(words: str) -> Markup:
    """What is shown when a pointer rests on a shape."""
    return Markup("<title>{}</title>").format(visible(words))


def group(*parts: Markup) -> Markup:
    """Shapes that belong together."""
    return Markup("<g>{}</g>").format(Markup("").join(parts))


def text(x: float, y: float, words: str, anchor: str, colour: str) -> Markup:
    """One line of text; ``anchor`` is start, middle or end."""
    shape = '<text x="{:.1f}" y="{:.1f}" text-anchor="{}" style="fill:{}">{}</text>'
    return Markup(shape).format(x, y, anchor, colour, escape(visible(words)))


def box(x: float, y: float, width: float, height: float) -> Markup:
    """A filled bar."""
    shape = '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" rx="1.5" style="fill:{}"/>'
    return Markup(shape).format(x, y, width, height, ACCENT)


def line(x1: float, y1: float, x2: float, y2: float, colour: str = LINE, dashed: bool = False) -> Markup:
    """A thin line."""
    shape = '<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" style="stroke:{}{}"/>'
    return Markup(shape).format(x1, y1, x2, y2, colour, ";stroke-dasharray:5 4" if dashed else "")


def dot(x: float, y: float, radius: float) -> Markup:
    """A point that lets those below it shine through."""
    shape = '<circle cx="{:.1f}" cy="{:.1f}" r="{:.1f}" style="fill:{};fill-opacity:.75;stroke:{}"/>'
    return Markup(shape).format(x, y, radius, ACCENT, INK)
