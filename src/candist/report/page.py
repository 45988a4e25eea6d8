"""The report as one HTML page: no script, no network, nothing beside the file itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib import resources
from typing import Any

from markupsafe import Markup

from candist.metrics import Interval
from candist.report import plots
from candist.report.facts import PROBABILITY_BINS
from candist.report.values import ClassFacts, Facts
from candist.report.wording import points, share, visible

#: Up to this many classes, the confusion matrix is shown in full and tables keep the task's order.
FEW_CLASSES = 20
#: Texts longer than this are folded, with the first `SUMMARY` characters to be seen.
FOLD, SUMMARY = 180, 140
#: Candidates and reasons shown of a long list.
CHIPS, REASONS = 8, 10

#: What the statuses and sources mean, for readers who have not seen the manual.
MEANINGS = {
    "ok": "read, and answered by the teacher",
    "empty": "no text in the row",
    "repeated_id": "the id was there before",
    "missing_id": "the row has no id",
    "bad_encoding": "the text cannot be decoded",
    "malformed": "the row cannot be read",
    "too_long": "the text is longer than allowed",
    "abstained": "the teacher named no class",
    "unparsed": "the teacher's answer could not be read",
    "refused": "the teacher refused",
    "truncated": "the teacher's answer was cut short",
    "failed": "the teacher could not be reached",
    "both": "student and teacher agree",
    "student": "the student alone, or against the teacher's first candidate",
    "teacher": "the teacher's candidate alone",
    "none": "no label",
}


def render(facts: Facts) -> str:
    """Return the page. It is made of `Facts` alone; every text is escaped, and steering marks are shown."""
    from jinja2 import Environment, StrictUndefined

    folder = resources.files("candist.report")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, finalize=_shown, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(count=count, percent=percent, duration=duration, decimal=decimal, interval=interval)
    template = environment.from_string(folder.joinpath("page.html.j2").read_text("utf-8"))
    return template.render(
        facts=facts,
        info=facts.info,
        gold=facts.gold,
        css=Markup(folder.joinpath("page.css").read_text("utf-8")),
        classes=in_reading_order(facts.classes),
        few_classes=FEW_CLASSES,
        fold=FOLD,
        summary=SUMMARY,
        chips=CHIPS,
        reasons=facts.reasons[:REASONS],
        more_reasons=sum(rows for _, rows in facts.reasons[REASONS:]),
        meanings=MEANINGS,
        share=share,
        most_named=max((c.named for c in facts.classes), default=0),
        most_share=max((max(c.first_share, c.label_share) for c in facts.classes), default=0.0),
        points=points,
        **figures(facts),
    )


def figures(facts: Facts) -> dict[str, Markup]:
    """The SVG figures of the page by name."""
    edges = [(PROBABILITY_BINS * tick / 100, f"{tick} %") for tick in range(0, 101, 20)]
    width = 100 / PROBABILITY_BINS
    bins = [(f"{width * i:.0f}–{width * (i + 1):.0f} %", n) for i, n in enumerate(facts.probabilities)]
    made = {
        "sizes_plot": plots.histogram(
            "Candidate sets by number of classes", binned_sizes(facts.set_sizes), "classes in the set", "sets"
        ),
        "sources_plot": plots.bars("Rows by where the label came from", facts.sources),
        "probabilities_plot": plots.histogram(
            "Rows by probability of the final label", bins, "probability of the final label", ticks=edges
        ),
    }
    if facts.gold:
        made["reliability_plot"] = plots.reliability("Share right against probability", facts.gold.curve)
    return made


def binned_sizes(sizes: Sequence[tuple[int, int]], limit: int = 20) -> list[tuple[str, int]]:
    """Set sizes without gaps, joined into at most ``limit`` ranges of equal width."""
    if not sizes:
        return []
    start, stop = min(1, sizes[0][0]), sizes[-1][0] + 1
    width = math.ceil((stop - start) / limit)
    made = []
    for low in range(start, stop, width):
        high = low + width - 1
        made.append((f"{low}" if width == 1 else f"{low}–{high}", sum(n for size, n in sizes if low <= size <= high)))
    return made


def in_reading_order(classes: Sequence[ClassFacts]) -> list[ClassFacts]:
    """A few classes in the task's order; many of them with the most frequent first."""
    if len(classes) <= FEW_CLASSES:
        return list(classes)
    return sorted(classes, key=lambda c: (-c.labels, -c.named))


def count(number: int) -> str:
    """For instance ``12,345``."""
    return f"{number:,}"


def percent(value: float) -> str:
    """A share in [0, 1], for instance ``84.2 %``; a dash for NaN."""
    return "–" if math.isnan(value) else f"{100 * value:.1f} %"


def decimal(value: float) -> str:
    """Two decimals; a dash for NaN."""
    return "–" if math.isnan(value) else f"{value:.2f}"


def interval(value: Interval) -> str:
    """A share with its interval; a dash for NaN."""
    return "–" if math.isnan(value.value) else value.percent()


def duration(seconds: float) -> str:
    """For instance ``0.4 s``, ``12 s``, ``3 min 05 s``, ``2 h 07 min``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _shown(value: Any) -> Any:
    """What the template prints: texts with their steering marks made visible; markup of our own as it is."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value
