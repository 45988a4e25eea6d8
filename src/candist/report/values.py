"""What a report shows, as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from candist.candidates import SetQuality
from candist.metrics import (
    Interval,
)


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
