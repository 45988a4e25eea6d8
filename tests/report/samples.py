"""Small runs made by hand, whose figures can be counted on paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from candist.records import Candidates, Prediction
from candist.report.facts import gather
from candist.report.values import Facts, RunInfo
from candist.task import Label, LabelSpace

INFO = RunInfo(
    name="mood",
    instruction="Judge the mood.",
    teacher="offline zero-shot teacher",
    encoder="minilm",
    created="2026-11-20T10:00:00+00:00",
    stages=(("annotate", 61.0), ("train", 3.25)),
    settings={"seed": "0"},
    versions={"candist": "0.1.0"},
    long_texts=0,
    long="cut",
    signal=0.5,
    probability_kind="student softmax on its own training rows: optimistic, not calibrated",
)


@dataclass(frozen=True)
class Run:
    """The arguments of `gather`."""

    predictions: tuple[Prediction, ...]
    answers: tuple[Candidates, ...]
    space: LabelSpace
    info: RunInfo = INFO

    def facts(self, **options: Any) -> Facts:
        merged = {answer.key: answer for answer in self.answers}
        return gather(self.predictions, self.answers, merged, self.space, self.info, **options)

    def said(self, **changes: Any) -> Run:
        """The same with other `RunInfo`."""
        return replace(self, info=replace(self.info, **changes))


def space(*names: str, other: bool = False) -> LabelSpace:
    return LabelSpace([Label.model_validate({"name": name}) for name in names], other)


def row(number: int, **values: Any) -> Prediction:
    """A prediction; what is not given is that of a good row without gold."""
    usual: dict[str, Any] = {
        "key": f"t{number}",
        "id": f"t{number}",
        "row": number,
        "text": f"text {number}",
        "label": "a",
        "probability": 0.9,
        "candidates": (),
        "source": "both",
        "review": False,
        "reason": "",
        "status": "ok",
    }
    return Prediction(**{**usual, **values})


def small() -> Run:
    """Eight rows: six with a set, one failed, one empty; six whose gold is a class."""
    unsure: dict[str, Any] = {"source": "student", "review": True, "reason": "the student is unsure"}
    failed: dict[str, Any] = {**unsure, "reason": "no answer", "status": "failed"}
    predictions = (
        row(1, label="a", probability=0.9, candidates=("a", "b"), gold="a"),
        row(2, label="b", probability=0.8, candidates=("b",), gold="b"),
        row(3, label="a", probability=0.4, candidates=("b", "a"), gold="a", **unsure),
        row(4, label="a", probability=0.6, candidates=("a", "b", "c"), gold="c"),
        row(5, label="b", probability=0.3, gold="b", **failed),
        row(6, label="", probability=None, text="", source="none", status="empty"),
        row(7, label="b", probability=0.55, candidates=("a", "c"), source="student", gold=" B"),
        row(8, label="a", probability=0.95, candidates=("a",), gold="x"),
    )
    answers = tuple(
        Candidates(p.key, p.candidates, "ok" if p.candidates else "failed", "llm") for p in predictions if p.row != 6
    )
    return Run(predictions, answers, space("a", "b", "c"))


def healthy(sets: Sequence[tuple[str, ...]] = (("a",), ("b", "a"), ("c", "b")), rows: int = 60) -> Run:
    """Nothing to warn of: each class is named and used often. ``sets`` come in turn, and their first is the label."""
    given = [sets[i % len(sets)] for i in range(rows)]
    predictions = [row(i, label=labels[0], candidates=labels) for i, labels in enumerate(given, 1)]
    answers = [Candidates(p.key, p.candidates, "ok", "llm") for p in predictions]
    return Run(tuple(predictions), tuple(answers), space("a", "b", "c"))


def nothing() -> Run:
    """No rows at all, and nothing known about the run."""
    return Run((), (), space("a", "b")).said(instruction="", stages=(), settings={}, versions={}, signal=None)


def many(classes: int, rows: int = 400) -> Run:
    """Many classes with gold; every seventh label is wrong, every thirtieth missing."""
    names = [f"class number {k}" for k in range(classes)]
    predictions = []
    for i in range(1, rows + 1):
        gold = names[i % classes]
        labels = (gold, names[(i + 1) % classes])
        label = "" if i % 30 == 0 else labels[i % 7 == 0]
        missing: dict[str, Any] = {"probability": None, "source": "none", "review": True, "reason": "odd"}
        predictions.append(
            row(i, label=label, candidates=labels, gold=gold, **({} if label else missing), text="long " * 80)
        )
    answers = [Candidates(p.key, p.candidates, "ok", "llm") for p in predictions]
    return Run(tuple(predictions), tuple(answers), space(*names))
