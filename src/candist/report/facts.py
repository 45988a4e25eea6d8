"""What a run came to, as plain values: all that the page and the terminal show is counted here, once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import get_args

import numpy as np

from candist.records import Candidates, LabelSource, Prediction
from candist.report.gold import gold_facts, outcomes
from candist.report.values import ClassFacts, Doubt, Facts, RunInfo, TeacherFacts
from candist.report.warnings import UNUSABLE, class_warnings, input_warnings, result_warnings, set_warnings
from candist.report.wording import share
from candist.task import LabelSpace

#: Bins of the probability histogram, each 0.05 wide.
PROBABILITY_BINS = 20
#: Characters of a doubtful text that are kept; the page says how many were left out.
TEXT_LIMIT = 2_000


def gather(
    predictions: Sequence[Prediction],
    answers: Sequence[Candidates],
    merged: Mapping[str, Candidates],
    space: LabelSpace,
    info: RunInfo,
    doubtful: int = 25,
    seed: int = 0,
) -> Facts:
    """Count what a run came to.

    Parameters
    ----------
    predictions
        One a row of the input.
    answers
        One a text and source.
    merged
        For each text's key, the union of its answers.
    doubtful
        How many of the rows most in doubt to keep.
    seed
        Of the bootstrap.
    """
    sets = [merged[p.key] for p in predictions if p.key in merged and merged[p.key].status == "ok"]
    sizes = [sum(label in space.index for label in answer.labels) for answer in sets]
    probabilities = [p.probability for p in predictions if p.probability is not None]
    usable = sum(p.status not in UNUSABLE for p in predictions)
    labelled = sum(p.label != "" for p in predictions)
    statuses = ranked(Counter[str](p.status for p in predictions))
    classes = class_facts(predictions, sets, space)
    gold = gold_facts(predictions, merged, space, seed)
    notes = [answer.note for answer in answers if answer.note]
    by_source = Counter[str](p.source for p in predictions)
    warnings = (
        *input_warnings(len(predictions), usable, len(sets), statuses, info),
        *set_warnings(sets, sizes, len(space)),
        *class_warnings(classes, len(sets), labelled),
        *result_warnings(usable, labelled, info, gold),
    )
    return Facts(
        info=info,
        rows=len(predictions),
        usable=usable,
        labelled=labelled,
        review=sum(p.review for p in predictions),
        statuses=statuses,
        sources=tuple((source, by_source[source]) for source in get_args(LabelSource)),
        reasons=ranked(Counter(p.reason or "no reason given" for p in predictions if p.review)),
        teachers=teacher_facts(answers),
        sets=len(sets),
        set_sizes=tuple(sorted(Counter(sizes).items())),
        mean_size=mean(sizes),
        odd=len(notes),
        odd_example=notes[0] if notes else "",
        class_count=len(space),
        classes=classes,
        probabilities=binned(probabilities),
        with_probability=len(probabilities),
        doubtful=most_doubtful(predictions, doubtful),
        warnings=warnings,
        gold=gold,
    )


def ranked(counts: Counter[str]) -> tuple[tuple[str, int], ...]:
    """(what, how often), ``ok`` first, then the most frequent, then by name."""
    return tuple(sorted(counts.items(), key=lambda item: (item[0] != "ok", -item[1], item[0])))


def binned(probabilities: Sequence[float]) -> tuple[int, ...]:
    """Rows in each of `PROBABILITY_BINS` bins; a probability on an edge, 1 excepted, belongs to the bin above."""
    # Whole numbers as edges: 0.95 must not fall below an edge that is 0.9500000000000001 in floating point.
    places = np.round(np.array(probabilities, dtype=np.float64) * PROBABILITY_BINS, 9)
    return tuple(int(n) for n in np.histogram(places, PROBABILITY_BINS, (0, PROBABILITY_BINS))[0])


def mean(values: Sequence[int]) -> float:
    """Mean; NaN for no values."""
    return sum(values) / len(values) if values else float("nan")


def teacher_facts(answers: Sequence[Candidates]) -> tuple[TeacherFacts, ...]:
    """Count the answers of each source, in order of first mention."""
    by_source: dict[str, list[Candidates]] = {}
    for answer in answers:
        by_source.setdefault(answer.source, []).append(answer)
    return tuple(
        TeacherFacts(
            source,
            len(given),
            ranked(Counter[str](answer.status for answer in given)),
            mean([len(answer.labels) for answer in given if answer.status == "ok"]),
        )
        for source, given in by_source.items()
    )


def class_facts(
    predictions: Sequence[Prediction], sets: Sequence[Candidates], space: LabelSpace
) -> tuple[ClassFacts, ...]:
    """Count mentions and final labels of each class, in the task's order, and of `OTHER` last where it is legal."""
    first = Counter(answer.labels[0] for answer in sets if answer.labels)
    named = Counter(label for answer in sets for label in answer.labels)
    labels = Counter(p.label for p in predictions if p.label)
    labelled = sum(labels.values())
    return tuple(
        ClassFacts(
            name,
            first[name],
            named[name],
            labels[name],
            share(first[name], len(sets)),
            share(named[name], len(sets)),
            share(labels[name], labelled),
        )
        for name in outcomes(space)
    )


def most_doubtful(predictions: Sequence[Prediction], count: int) -> tuple[Doubt, ...]:
    """Rows to review first, then the smallest probability; rows without any (nobody decided) close their group."""
    rows = [p for p in predictions if p.review or p.probability is not None]
    rows.sort(key=lambda p: (not p.review, 2.0 if p.probability is None else p.probability, p.row))
    return tuple(
        Doubt(
            row=p.row,
            id=p.id,
            text=p.text[:TEXT_LIMIT],
            cut=max(0, len(p.text) - TEXT_LIMIT),
            label=p.label,
            probability=p.probability,
            candidates=p.candidates,
            review=p.review,
            reason=p.reason,
        )
        for p in rows[:count]
    )
