"""Scores against gold, with their intervals. Gold is read here alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from candist.candidates import quality, to_mask
from candist.metrics import (
    Interval,
    bootstrap,
    calibration_curve,
    confusion,
    expected_calibration_error,
    macro_f1,
    paired_difference,
    wilson,
)
from candist.records import Candidates, Prediction
from candist.report.values import GoldFacts
from candist.task import OTHER, LabelSpace

#: Pairs kept in `GoldFacts.confused`.
CONFUSED_PAIRS = 20
#: Above this many rows, the bootstrap of macro-F1 makes fewer draws: its interval is narrow, and time is not.
MANY_ROWS = 50_000


def outcomes(space: LabelSpace) -> tuple[str, ...]:
    """The class names, and `OTHER` last where it is legal."""
    return (*space.names, OTHER) if space.other else space.names


def gold_facts(
    predictions: Sequence[Prediction], merged: Mapping[str, Candidates], space: LabelSpace, seed: int
) -> GoldFacts | None:
    """Score against gold; None where no row has any."""
    with_gold = [(p, p.gold, space.resolve(p.gold)) for p in predictions if p.gold is not None]
    if not with_gold:
        return None
    unknown = [written for _, written, name in with_gold if name is None]
    scored = [p for p, _, name in with_gold if name is not None]
    names = outcomes(space)
    index = {name: k for k, name in enumerate(names)}
    gold = np.array([index[name] for _, _, name in with_gold if name is not None], dtype=np.int64)
    final = np.array([index.get(p.label, -1) for p in scored], dtype=np.int64)
    teacher = np.array([index.get(first_candidate(merged.get(p.key)), -1) for p in scored], dtype=np.int64)

    # OTHER leaves no mark in a mask, so rows with gold OTHER cannot be scored as sets.
    has_set = [
        k < len(space) and p.key in merged and merged[p.key].status == "ok" for p, k in zip(scored, gold, strict=True)
    ]
    set_gold = gold[has_set]
    mask = to_mask([merged[p.key] for p, there in zip(scored, has_set, strict=True) if there], space)
    hit = mask[np.arange(len(set_gold)), set_gold]
    beta, f1 = set_intervals(hit, mask.sum(axis=1), len(space), seed)

    sure = np.array([p.probability is not None for p in scored], dtype=bool)
    probabilities = np.array([p.probability for p in scored if p.probability is not None], dtype=np.float64)
    right = (final == gold)[sure]
    counts = confusion(final, gold, len(names))
    return GoldFacts(
        rows=len(scored),
        unknown=len(unknown),
        example=unknown[0] if unknown else "",
        sets=quality(mask, set_gold),
        set_rows=len(set_gold),
        coverage=wilson(int(hit.sum()), len(set_gold)),
        beta=beta,
        f1=f1,
        teacher=wilson(int((teacher == gold).sum()), len(scored)),
        final=wilson(int((final == gold).sum()), len(scored)),
        difference=difference(final == gold, teacher == gold, seed),
        macro_f1=macro_f1_interval(final, gold, len(names), seed),
        names=names,
        confusion=tuple(tuple(int(n) for n in row) for row in counts),
        confused=most_confused(counts, names),
        curve=tuple(calibration_curve(probabilities, right)),
        error=expected_calibration_error(probabilities, right),
        curve_rows=len(probabilities),
    )


def first_candidate(answer: Candidates | None) -> str:
    """The label that an answer prefers; "" where there is no answer."""
    return answer.labels[0] if answer is not None and answer.status == "ok" and answer.labels else ""


def difference(right: NDArray[np.bool_], reference: NDArray[np.bool_], seed: int) -> Interval:
    """Accuracy of ``right`` minus that of ``reference``, paired; NaN within [-1, 1] for no rows."""
    return paired_difference(right, reference, seed=seed) if len(right) else Interval(float("nan"), -1.0, 1.0)


def macro_f1_interval(labels: NDArray[np.int64], gold: NDArray[np.int64], classes: int, seed: int) -> Interval:
    """Macro-F1 with a bootstrap interval; NaN within [0, 1] for no rows."""
    if not len(gold):
        return Interval(float("nan"), 0.0, 1.0)
    return bootstrap(
        lambda rows: macro_f1(labels[rows], gold[rows], classes), len(gold), seed=seed, draws=draws_for(len(gold))
    )


def set_intervals(
    hit: NDArray[np.bool_], sizes: NDArray[np.integer[Any]], classes: int, seed: int
) -> tuple[Interval, Interval]:
    """β and F1 of candidate sets (paper §3.2) with bootstrap intervals; NaN within [0, 1] for no rows."""
    if not len(hit):
        nothing = Interval(float("nan"), 0.0, 1.0)
        return nothing, nothing
    narrow = (classes - sizes) / (classes - 1)

    def beta(rows: NDArray[np.integer[Any]]) -> float:
        return float(narrow[rows].mean())

    def f1(rows: NDArray[np.integer[Any]]) -> float:
        both = float(hit[rows].mean()), beta(rows)
        return 2 * both[0] * both[1] / sum(both) if sum(both) else 0.0

    draws = draws_for(len(hit))
    return bootstrap(beta, len(hit), seed=seed, draws=draws), bootstrap(f1, len(hit), seed=seed, draws=draws)


def draws_for(rows: int) -> int:
    """How many bootstrap draws this many rows are worth."""
    return 1000 if rows <= MANY_ROWS else 200


def most_confused(counts: NDArray[np.int64], names: Sequence[str]) -> tuple[tuple[str, str, int], ...]:
    """(gold, label, rows) of the largest counts off the diagonal of a confusion matrix (K, K + 1), "no label" apart."""
    wrong = counts[:, :-1].copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:CONFUSED_PAIRS]
    pairs = [divmod(int(flat), wrong.shape[1]) for flat in order]
    return tuple((names[i], names[j], int(wrong[i, j])) for i, j in pairs if wrong[i, j])
