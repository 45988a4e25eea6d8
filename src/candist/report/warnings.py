"""What is odd about a run, each in one line that says what to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from candist.records import AnswerStatus, Candidates, RowStatus
from candist.report.values import ClassFacts, GoldFacts, RunInfo
from candist.report.wording import listed, percent, points, share
from candist.task import OTHER

#: Rows with these statuses had no text that could be labelled.
UNUSABLE = frozenset(get_args(RowStatus)) - {"ok"}
#: Below this many rows that name a class, a student can hardly learn it.
FEW_ROWS = 10
#: Below this, neighbours hardly share labels. Not 0: the offline teacher reads the same embeddings, and its labels for
#: texts of shuffled letters agree .07 to .10 beyond chance; for texts that fit its classes .33 to .65 (see LOG.md).
LITTLE_SIGNAL = 0.12


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
