"""How figures and texts from the data are written for people."""

from __future__ import annotations

import re
from collections.abc import Sequence

from candist.metrics import Interval

#: Control characters (line break and tab stay), the marks that turn the direction of text, and lone surrogates:
#: they would reorder a page, steer a terminal, or fail to encode. Zero-width joiners stay, since emoji need them.
_INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def share(part: float, whole: float) -> float:
    """Share in [0, 1]; 0 of nothing is 0, so that a bar can always be drawn."""
    return part / whole if whole else 0.0


def percent(part: int, whole: int) -> str:
    """A share as text, one decimal."""
    return f"{100 * share(part, whole):.1f} %"


def points(interval: Interval) -> str:
    """A difference of two shares in percentage points, for instance ``+1.5 points (0.2 to 2.8)``."""
    value, low, high = (100 * x for x in (interval.value, interval.low, interval.high))
    return f"{value:+.1f} points ({low:.1f} to {high:.1f})".replace("-", "−")


def listed(names: Sequence[str], limit: int = 8) -> str:
    """Names on one line, the first few and how many more."""
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more:,} more" if more > 0 else "")


def visible(text: str) -> str:
    """Show characters that would steer a terminal or turn the direction of a page as ``⟨U+202E⟩``."""
    return _INVISIBLE.sub(lambda match: f"⟨U+{ord(match[0]):04X}⟩", text)
