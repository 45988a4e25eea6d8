"""What a run came to, as plain values: all that the page and the terminal show is counted here, once."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from candist.candidates import SetQuality, quality, to_mask
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
from candist.records import AnswerStatus, Candidates, LabelSource, Prediction, RowStatus
from candist.task import OTHER, LabelSpace

#: Rows with these statuses had no text that could be labelled.
UNUSABLE = frozenset(get_args(RowStatus)) - {"ok"}
#: Bins of the probability histogram, each 0.05 wide.
PROBABILITY_BINS = 20
#: Characters of a doubtful text that are kept; the page says how many were left out.
TEXT_LIMIT = 2_000
#: Pairs kept in `GoldFacts.confused`.
CONFUSED_PAIRS = 20
#: Below this many rows that name a class, a student can hardly learn it.
FEW_ROWS = 10
#: Below this, neighbours hardly share labels. Not 0: the offline teacher reads the same embeddings, and its labels for
#: texts of shuffled letters agree .07 to .10 beyond chance; for texts that fit its classes .33 to .65 (see LOG.md).
LITTLE_SIGNAL = 0.12
#: Above this many rows, the bootstrap of macro-F1 makes fewer draws: its interval is narrow, and time is not.
MANY_ROWS = 50_000

#: Control characters (line break and tab stay), the marks that turn the direction of text, and lone surrogates:
#: they would reorder a page, steer a terminal, or fail to encode. Zero-width joiners stay, since emoji need them.
_INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


@dataclass(frozen=True)
class RunInfo:
    """What the run was given and how it went, apart from its rows.

    Attributes
    ----------
    name, instruction
        Of the task.
    teacher, encoder
        For instance ``offline zero-shot teacher``, ``answers on hand: ca_all``.
    created
        ISO time.
    stages
        (stage, seconds), in order.
    settings, versions
        As shown to the reader.
    long_texts, long
        Texts longer than the encoder reads, and what was done with them: ``cut`` or ``mean``.
    signal
        Chance-corrected agreement of each text's label with its nearest neighbours' labels, 0 = none; None or NaN
        where it was not measured.
    notes
        What was odd about the input as a whole, for the warnings.
    probability_kind
        How the probabilities were got, for instance ``student softmax on its own training rows: optimistic``.
    """

    name: str
    instruction: str
    teacher: str
    encoder: str
    created: str
    stages: tuple[tuple[str, float], ...]
    settings: Mapping[str, str]
    versions: Mapping[str, str]
    long_texts: int
    long: str
    signal: float | None
    probability_kind: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class TeacherFacts:
    """One source's answers: ``size`` is the mean number of candidates over its ``ok`` answers (NaN for none)."""

    source: str
    answers: int
    statuses: tuple[tuple[str, int], ...]
    size: float


@dataclass(frozen=True)
class ClassFacts:
    """How often a class was named first, was in a set, and is the final label.

    Shares in [0, 1]: ``first_share`` and ``named_share`` of the sets, ``label_share`` of the labelled rows.
    """

    name: str
    first: int
    named: int
    labels: int
    first_share: float
    named_share: float
    label_share: float


@dataclass(frozen=True)
class Doubt:
    """A row in doubt; ``cut`` counts the characters of ``text`` that were left out."""

    row: int
    id: str
    text: str
    cut: int
    label: str
    probability: float | None
    candidates: tuple[str, ...]
    review: bool
    reason: str


@dataclass(frozen=True)
class GoldFacts:
    """Scores over the rows whose gold is a class (or `OTHER`, where the task allows it).

    Attributes
    ----------
    rows
        Rows scored; unlabelled ones are among them and count as wrong.
    unknown, example
        Rows whose gold is no class, and the first such gold.
    sets, set_rows, coverage, beta, f1
        Quality of the candidate sets over the ``set_rows`` rows that have a set and a class as gold, and its intervals.
    teacher, final
        Accuracy of the first candidate and of the final label.
    difference
        ``final`` minus ``teacher``, paired, in [-1, 1].
    macro_f1
        Of the final labels.
    names, confusion
        Class names, and counts: a row for each gold class, a column for each label and a last one for "no label".
    confused
        (gold, label, rows) of the pairs of classes that are confused most.
    curve, error, curve_rows
        Calibration over the rows with a probability: (mean probability, share right, rows), and ECE (NaN for none).
    """

    rows: int
    unknown: int
    example: str
    sets: SetQuality
    set_rows: int
    coverage: Interval
    beta: Interval
    f1: Interval
    teacher: Interval
    final: Interval
    difference: Interval
    macro_f1: Interval
    names: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    confused: tuple[tuple[str, str, int], ...]
    curve: tuple[tuple[float, float, int], ...]
    error: float
    curve_rows: int


@dataclass(frozen=True)
class Facts:
    """Everything that is shown.

    Attributes
    ----------
    rows, usable, labelled, review
        Rows in all, with a text that can be labelled, with a final label, to be looked at.
    statuses, sources, reasons
        (what, rows), most frequent first; ``sources`` always holds all four.
    teachers
        One entry a source of answers.
    sets
        Texts with at least one answer.
    set_sizes, mean_size
        (number of classes, sets) in order of size, and the mean (NaN for no sets). `OTHER` is not counted.
    odd, odd_example
        Answers with a note, and the first note.
    probabilities, with_probability
        Rows in each of `PROBABILITY_BINS` bins over [0, 1], and their sum.
    """

    info: RunInfo
    rows: int
    usable: int
    labelled: int
    review: int
    statuses: tuple[tuple[str, int], ...]
    sources: tuple[tuple[str, int], ...]
    reasons: tuple[tuple[str, int], ...]
    teachers: tuple[TeacherFacts, ...]
    sets: int
    set_sizes: tuple[tuple[int, int], ...]
    mean_size: float
    odd: int
    odd_example: str
    class_count: int
    classes: tuple[ClassFacts, ...]
    probabilities: tuple[int, ...]
    with_probability: int
    doubtful: tuple[Doubt, ...]
    warnings: tuple[str, ...]
    gold: GoldFacts | None

    @property
    def seconds(self) -> float:
        """Time of all stages."""
        return sum(seconds for _, seconds in self.info.stages)


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


def share(part: float, whole: float) -> float:
    """Share in [0, 1]; 0 of nothing is 0, so that a bar can always be drawn."""
    return part / whole if whole else 0.0


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


def outcomes(space: LabelSpace) -> tuple[str, ...]:
    """The class names, and `OTHER` last where it is legal."""
    return (*space.names, OTHER) if space.other else space.names


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


def input_warnings(rows: int, usable: int, sets: int, statuses: Sequence[tuple[str, int]], info: RunInfo) -> list[str]:
    """What is odd about the rows and the answers that came in."""
    found = []
    if share(rows - usable, rows) > 0.2:
        kinds = ", ".join(f"{status} {count:,}" for status, count in statuses if status in UNUSABLE)
        found.append(f"{percent(rows - usable, rows)} of the rows cannot be used ({kinds}); check the input file")
    if share(usable - sets, usable) > 0.2:
        answer_statuses = get_args(AnswerStatus)
        kinds = ", ".join(f"{s} {n:,}" for s, n in statuses if s in answer_statuses and s != "ok")
        what = f"{percent(usable - sets, usable)} of the texts have no answer from the teacher"
        found.append(f"{what}{f' ({kinds})' if kinds else ''}; look at the answers' notes, then ask again")
    if info.long == "cut" and share(info.long_texts, usable) > 0.05:
        what = f"{percent(info.long_texts, usable)} of the texts are longer than the encoder reads and were cut"
        found.append(f"{what}; average over their parts, or take an encoder that reads more")
    return [*found, *info.notes]


def set_warnings(sets: Sequence[Candidates], sizes: Sequence[int], classes: int) -> list[str]:
    """What is odd about the candidate sets; the gravest alone, since one implies the next."""
    if not sets:
        return []
    full = sum(size == classes for size in sizes)
    ask = "describe the classes so that they can be told apart, or ask for fewer candidates"
    if full == len(sets):
        return [f"every candidate set holds all {classes:,} classes: the sets tell nothing; {ask}"]
    if full / len(sets) >= 0.95:
        return [
            f"{percent(full, len(sets))} of the candidate sets hold all {classes:,} classes: they tell nothing; {ask}"
        ]
    if all(len(answer.labels) == 1 for answer in sets):
        names = {answer.labels[0] for answer in sets}
        if len(names) == 1 and len(sets) > 1:
            do = "check the prompt, the answers and the class descriptions"
            return [f"every candidate set names the same one class, {next(iter(names))!r}: nothing to learn; {do}"]
        what = (
            "every candidate set holds one class: there is nothing to refine, and the student only imitates the teacher"
        )
        return [f"{what}; ask the teacher for all classes that may fit, or join the answers of several teachers"]
    return []


def class_warnings(classes: Sequence[ClassFacts], sets: int, labelled: int) -> list[str]:
    """Classes that are hardly there. `OTHER` may well be rare and is left out."""
    if not sets:
        return []
    real = [c for c in classes if c.name != OTHER]
    found = []
    if never := [c.name for c in real if not c.named]:
        found.append(f"the teacher never names {listed(never)}; describe them better, or remove them from the task")
    if few := [f"{c.name} ({c.named})" for c in real if 0 < c.named < FEW_ROWS]:
        found.append(
            f"fewer than {FEW_ROWS} rows name {listed(few)}; add texts of these classes, or merge them with others"
        )
    if labelled and (unused := [c.name for c in real if c.named and not c.labels]):
        found.append(f"no final label is {listed(unused)}; look at rows that name them before you use the labels")
    return found


def result_warnings(usable: int, labelled: int, info: RunInfo, gold: GoldFacts | None) -> list[str]:
    """What is odd about the labels, the encoder and the scores."""
    found = []
    if usable and not labelled:
        found.append("no row has a label; see the statuses and the notes of the answers")
    if info.signal is not None and info.signal < LITTLE_SIGNAL:
        what = f"the encoder carries no signal for these texts (neighbours agree {info.signal:.2f} beyond chance)"
        found.append(f"{what}; take an encoder made for their language and field")
    if gold and gold.unknown:
        labels = "1 gold label is" if gold.unknown == 1 else f"{gold.unknown:,} gold labels are"
        what = f"{labels} no class of the task, for instance {gold.example[:60]!r}"
        found.append(f"{what}; those rows are not scored: add aliases, or correct them")
    if gold and gold.difference.high < 0:
        what = f"the final labels score worse than the teacher's first candidates ({points(gold.difference)})"
        found.append(f"{what}; use the teacher's labels, or another encoder")
    return found


def listed(names: Sequence[str], limit: int = 8) -> str:
    """Names on one line, the first few and how many more."""
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more:,} more" if more > 0 else "")


def percent(part: int, whole: int) -> str:
    """A share as text, one decimal."""
    return f"{100 * share(part, whole):.1f} %"


def points(interval: Interval) -> str:
    """A difference of two shares in percentage points, for instance ``+1.5 points (0.2 to 2.8)``."""
    value, low, high = (100 * x for x in (interval.value, interval.low, interval.high))
    return f"{value:+.1f} points ({low:.1f} to {high:.1f})".replace("-", "−")


def visible(text: str) -> str:
    """Show characters that would steer a terminal or turn the direction of a page as ``⟨U+202E⟩``."""
    return _INVISIBLE.sub(lambda match: f"⟨U+{ord(match[0]):04X}⟩", text)
