"""The report in a few lines of plain text, for the end of a run."""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence

from candist.metrics import Interval
from candist.records import Prediction
from candist.report.page import decimal, duration, interval, percent
from candist.report.values import Facts, GoldFacts
from candist.report.wording import points, visible

WIDTH = 100
HEAD = 10
#: How many warnings, reasons and the like are named.
WARNINGS, PARTS, SIZES = 3, 6, 3
#: Who gave the labels, in words that need no glossary.
SOURCES = {"both": "teacher and student", "student": "student alone", "teacher": "teacher alone", "none": "no label"}


def summary(facts: Facts) -> str:
    """Return at most 25 lines of at most 100 columns, without colour codes and without a final line break."""
    title = f"{facts.info.name[:40]}: {facts.labelled:,} of {facts.rows:,} rows labelled, {facts.review:,} to review"
    lines = [
        fit(title),
        entry("rows", counted(facts.statuses)),
        entry("labels", counted([(SOURCES[source], rows) for source, rows in facts.sources if rows])),
        entry("review", counted(facts.reasons) if facts.review else "none"),
        entry("sets", sizes_line(facts)),
        entry("teacher", facts.info.teacher),
        entry("encoder", encoder_line(facts)),
        entry("time", time_line(facts)),
    ]
    if facts.gold:
        lines += gold_lines(facts.gold)
    return "\n".join(lines + warning_lines(facts.warnings))


def entry(head: str, words: str) -> str:
    """One line: its head, then what it says."""
    return fit(f"{head:<{HEAD}}{words}")


def fit(words: str) -> str:
    """One line that a terminal shows in at most `WIDTH` columns; wide characters take two."""
    from rich.cells import cell_len, set_cell_size

    shown = visible(words.replace("\n", " ").replace("\t", " ")).rstrip()
    return shown if cell_len(shown) <= WIDTH else set_cell_size(shown, WIDTH - 1).rstrip() + "…"


def counted(parts: Iterable[tuple[str, int]]) -> str:
    """For instance ``ok 960 · empty 40``, with the rest added up."""
    named = list(parts)
    shown = [f"{what} {rows:,}" for what, rows in named[:PARTS]]
    if rest := sum(rows for _, rows in named[PARTS:]):
        shown.append(f"other {rest:,}")
    return " · ".join(shown) or "none"


def sizes_line(facts: Facts) -> str:
    """How large the candidate sets are."""
    if not facts.sets:
        return "none"
    sizes = [(f"{size}:", sets) for size, sets in facts.set_sizes[:SIZES]]
    if rest := facts.set_sizes[SIZES:]:
        sizes.append((f"{rest[0][0]} and more:", sum(sets for _, sets in rest)))
    return f"{facts.sets:,}, mean size {decimal(facts.mean_size)} of {facts.class_count:,} classes · {counted(sizes)}"


def encoder_line(facts: Facts) -> str:
    """The encoder, and whether it carries signal."""
    signal = facts.info.signal
    unknown = signal is None or math.isnan(signal)
    return facts.info.encoder + ("" if unknown else f" · signal {signal:.2f} (0 is none, 1 is full)")


def time_line(facts: Facts) -> str:
    """Seconds of each stage."""
    stages = [f"{stage} {duration(seconds)}" for stage, seconds in facts.info.stages if seconds >= 1]
    return " · ".join([duration(facts.seconds), *stages])


def gold_lines(gold: GoldFacts) -> list[str]:
    """Scores with their intervals, a line each."""
    lines = [entry("gold", f"{gold.rows:,} rows scored; 95 % intervals in brackets")]
    if not gold.rows:
        return lines
    scores: Sequence[tuple[str, str]] = (
        ("final labels right", interval(gold.final)),
        ("first candidates right", interval(gold.teacher)),
        ("difference", points(gold.difference)),
        ("macro-F1", interval(gold.macro_f1)),
        ("sets hold the gold label", covered(gold.coverage)),
        ("calibration error", percent(gold.error)),
    )
    return lines + [entry("", f"{name:<26}{value}") for name, value in scores]


def covered(coverage: Interval) -> str:
    """Coverage, or that there was no set to score."""
    return "no sets to score" if math.isnan(coverage.value) else interval(coverage)


def warning_lines(warnings: Sequence[str]) -> list[str]:
    """The first warnings, two lines each at most, and how many more there are."""
    lines = []
    for warning in warnings[:WARNINGS]:
        wrapped = textwrap.wrap(
            visible(warning), WIDTH, initial_indent="! ", subsequent_indent="  ", max_lines=2, placeholder=" …"
        )
        lines += [fit(line) for line in wrapped]
    if more := len(warnings) - WARNINGS:
        lines += [f"! {more:,} more in the report"] if more > 0 else []
    return lines


def changes(before: Sequence[Prediction], after: Sequence[Prediction], limit: int) -> str:
    """Which rows have another label in the second run: counts, the commonest moves, and the first ``limit`` rows.

    Rows are joined by key; rows that one run lacks are counted, not compared.
    """
    old, new = {row.key: row for row in before}, {row.key: row for row in after}
    shared = [key for key in new if key in old]
    changed = [(old[key], new[key]) for key in shared if old[key].label != new[key].label]
    lines = [f"{len(changed):,} of {len(shared):,} rows have another label"]
    lines += [
        f"{len(ids):,} rows are only in {run}"
        for ids, run in ((old.keys() - new.keys(), "the first run"), (new.keys() - old.keys(), "the second run"))
        if ids
    ]
    moves = Counter((shown(a.label), shown(b.label)) for a, b in changed)
    lines += [entry(f"{rows:,}", f"{was} → {now}") for (was, now), rows in moves.most_common(PARTS)]
    if changed and limit:
        lines.append("")
    lines += [fit(f"{b.id}: {shown(a.label)} → {shown(b.label)}: {b.text}") for a, b in changed[:limit]]
    if 0 < limit < len(changed):
        lines.append(f"… and {len(changed) - limit:,} more")
    return "\n".join(lines)


def shown(label: str) -> str:
    """A label, or that there is none."""
    return label or "(none)"
