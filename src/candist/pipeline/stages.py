"""The main road: texts → candidate sets → student → one label a row, resumable at every stage.

read → annotate → embed → train → label → report. Each stage leaves a file in the run folder before the next begins
(embeddings stay in the cache), and a stage whose file is there is not done again.
"""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from candist import __version__, encoders
from candist.candidates import first_labels, to_mask
from candist.data.files import append_lines, recover_lines, write_text
from candist.data.runfolder import RunFolder, claim, read_record, state_of, write_record
from candist.data.tables import read_labels, write_labels
from candist.errors import MissingFileError
from candist.metrics import neighbour_agreement
from candist.pipeline.answers import check_answers, merge
from candist.pipeline.decide import decide
from candist.pipeline.settings import Settings
from candist.records import Candidates, Prediction, Text, from_line, to_line
from candist.report.facts import Facts, RunInfo, gather
from candist.report.page import render
from candist.task import Task, build_task
from candist.teacher import offline

if TYPE_CHECKING:
    from candist.student.predict import Model

Progress = Callable[[str, int, int], None]

CHUNK = 2000
TRACKED = ("candist", "torch", "sentence-transformers", "transformers", "numpy", "pyarrow")


def silent(stage: str, done: int, total: int) -> None:
    """The progress report that says nothing."""


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes
    ----------
    folder
        Where its files are.
    task
        What was labelled.
    predictions
        One a row of the input, in its order.
    facts
        What the report shows.
    """

    folder: Path
    task: Task
    predictions: list[Prediction]
    facts: Facts

    @property
    def labels(self) -> list[str]:
        """The label of each row; "" where there is none."""
        return [prediction.label for prediction in self.predictions]

    def to_pandas(self) -> Any:
        """``labels.parquet`` as a pandas data frame."""
        import pandas as pd

        return pd.read_parquet(self.folder / "labels.parquet")


@dataclass
class Clock:
    """Seconds a stage, for the report."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of the block to a stage."""
        start = time.perf_counter()
        yield
        self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - start, 2)


def execute(
    task: Task,
    texts: Sequence[Text],
    out: Path,
    *,
    answers: Sequence[Candidates] | None,
    settings: Settings,
    name: str,
    force: bool,
    progress: Progress,
) -> Run:
    """Do a run or continue it; the same call after a kill gives the same labels, byte for byte.

    Parameters
    ----------
    task, texts
        What to label; every text comes out, also the unusable ones.
    out
        The run folder.
    answers
        Answers on hand; None asks the offline teacher.
    settings
        All else.
    name
        Of the input, for the report.
    force
        Remove an earlier run in ``out``.
    progress
        Called with (stage, done, total).
    """
    if answers is not None:
        check_answers(answers, task.space)
    located = encoders.locate(settings.encoder)
    identity = identify(task, texts, answers, settings, encoders.fingerprint(located))
    if not force and state_of(out, identity) == "finished":
        return restore(out)
    clock = Clock()
    with clock.stage("load encoder"):  # before anything is written: what is wrong with it shows here
        encoder = encoders.load(settings.encoder)
        progress("load encoder", 1, 1)
    with claim(out, identity, force=force) as folder:
        record = begin(folder, identity, task, texts, answers, settings, name)
        record["stages"] = clock.seconds
        usable = [text for text in texts if text.status == "ok"]

        with clock.stage("embed"):
            vectors, is_long = encoders.embed(
                encoder,
                [text.body for text in usable],
                long=settings.long,
                cache=encoders.cache_folder(),
                progress=lambda done, total: progress("embed", done, total),
            )
        with clock.stage("annotate"):
            asked = ask_offline(task, usable, vectors, encoder, settings) if answers is None else answers
            given = annotate(folder.file("annotations.jsonl"), asked, progress)
            merged = merge(given)
        with clock.stage("train"):
            model = fit(folder.file("model"), task, usable, vectors, merged, encoder, settings, progress)
        with clock.stage("label"):
            probs = model.probabilities(vectors)
            by_key = {text.key: probs[i] for i, text in enumerate(usable)}
            predictions = list(decide(texts, merged, by_key, task.space, settings.review_below))
            write_labels(out, predictions)
            progress("label", len(texts), len(texts))
        record["texts"]["long"] = int(is_long.sum())
        record["encoder"]["signal"] = signal_of(vectors, usable, merged, task)
        facts = facts_of(record, task, predictions, given)
        write_report(out, facts)
        record["run"] |= {"status": "finished", "finished": now()}
        write_record(out, record)
    return Run(out, task, predictions, facts)


def restore(out: Path) -> Run:
    """Read a finished run back from its folder."""
    task, predictions, given, record = read_run(out)
    return Run(out, task, predictions, facts_of(record, task, predictions, given))


def identify(
    task: Task, texts: Sequence[Text], answers: Sequence[Candidates] | None, settings: Settings, encoder: str
) -> dict[str, str]:
    """Digests of all that makes a run what it is, by the name that an error message shows."""
    return {
        "task": digest([task.model_dump_json()]),
        "texts": digest(to_line(text) for text in texts),
        "answers": digest(to_line(answer) for answer in answers) if answers is not None else "offline",
        "settings": digest([settings.model_dump_json()]),
        "encoder": encoder,
    }


def digest(lines: Iterable[str]) -> str:
    """SHA-256 of lines."""
    total = hashlib.sha256()
    for line in lines:
        total.update(line.encode("utf-8", "surrogatepass") + b"\n")
    return total.hexdigest()


def begin(
    folder: RunFolder,
    identity: dict[str, str],
    task: Task,
    texts: Sequence[Text],
    answers: Sequence[Candidates] | None,
    settings: Settings,
    name: str,
) -> dict[str, Any]:
    """Write ``run.toml`` of a new run, or read that of a stopped one."""
    if folder.state == "resumed":
        return read_record(folder.path)
    sources = list(dict.fromkeys(answer.source for answer in answers)) if answers is not None else [offline.SOURCE]
    record: dict[str, Any] = {
        "run": {"status": "running", "created": now()},
        "identity": identity,
        "texts": {"name": name, "rows": len(texts)},
        "teacher": {"kind": "answers on hand" if answers is not None else "offline", "sources": sources},
        "encoder": {"name": settings.encoder},
        "settings": settings.model_dump(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in TRACKED}},
        "stages": {},
    }
    write_text(folder.file("task.json"), task.model_dump_json(indent=2) + "\n")
    write_record(folder.path, record)
    return record


def now() -> str:
    """The time in UTC, to the second, in ISO form."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def ask_offline(
    task: Task, texts: Sequence[Text], vectors: encoders.Vectors, encoder: encoders.Encoder, settings: Settings
) -> Iterator[Candidates]:
    """Candidate sets of the offline teacher for all texts."""
    similarity = offline.similarities(vectors, offline.class_vectors(task.labels, encoder.encode))
    scale = offline.fit_scale(similarity)
    return offline.annotate([text.key for text in texts], similarity, scale, task.space, settings.teacher)


def annotate(journal: Path, asked: Iterable[Candidates], progress: Progress) -> list[Candidates]:
    """Write answers to the journal, skip those that it has, and return all in the order asked."""
    known = {(answer.key, answer.source): answer for answer in read_annotations(journal)}
    given: list[Candidates] = []
    fresh: list[str] = []
    for answer in asked:
        place = (answer.key, answer.source)
        if place not in known:
            fresh.append(to_line(answer))
        given.append(known.get(place, answer))
        if len(fresh) == CHUNK:
            append_lines(journal, fresh)
            fresh.clear()
            progress("annotate", len(given), 0)
    append_lines(journal, fresh)
    progress("annotate", len(given), len(given))
    return given


def read_annotations(journal: Path) -> list[Candidates]:
    """All whole lines of ``annotations.jsonl``."""
    return [from_line(Candidates, line) for line in recover_lines(journal)]


def fit(
    folder: Path,
    task: Task,
    texts: Sequence[Text],
    vectors: encoders.Vectors,
    merged: Mapping[str, Candidates],
    encoder: encoders.Encoder,
    settings: Settings,
    progress: Progress,
) -> Model:
    """Train the student on all texts with a candidate set, or read it back when the run was stopped after that."""
    import torch

    from candist.student import predict, trainer

    if folder.exists():
        return predict.load(folder)
    mask = to_mask((merged[text.key] for text in texts), task.space)
    taught = mask.any(axis=1)  # rows without an answer, or with "none of these" alone, teach nothing
    student = trainer.train(
        torch.from_numpy(vectors[taught]),
        torch.from_numpy(mask[taught]),
        settings.student,
        seed=settings.seed,
        progress=lambda done, total: progress("train", done, total),
    )
    model = predict.Model(task, settings.encoder, encoder.fingerprint, settings.long, student)
    about = {"made_by": f"candist {__version__}", "rows": int(taught.sum()), "settings": settings.model_dump()}
    predict.save(model, folder, about)
    return model


def signal_of(vectors: encoders.Vectors, texts: Sequence[Text], merged: Mapping[str, Candidates], task: Task) -> float:
    """How far texts that lie close together got the same first candidate: 0 as by chance, 1 always."""
    firsts = first_labels((merged[text.key] for text in texts), task.space)
    return round(neighbour_agreement(vectors[firsts >= 0], firsts[firsts >= 0]), 4)


def facts_of(
    record: Mapping[str, Any], task: Task, predictions: Sequence[Prediction], given: Sequence[Candidates]
) -> Facts:
    """What the report shows, from what the run folder holds."""
    sources = ", ".join(record["teacher"]["sources"])
    by_hand = record["teacher"]["kind"] != "offline"
    info = RunInfo(
        name=task.name,
        instruction=task.instruction,
        teacher=f"answers on hand: {sources}" if by_hand else "offline zero-shot teacher (sentence embeddings, no LLM)",
        encoder=record["encoder"]["name"],
        created=record["run"]["created"],
        stages=tuple((stage, float(seconds)) for stage, seconds in record["stages"].items()),
        settings={path: str(value) for path, value in flatten(record["settings"])},
        versions=record["versions"],
        long_texts=record["texts"]["long"],
        long=record["settings"]["long"],
        signal=record["encoder"]["signal"],
        probability_kind="student's softmax on rows that it was trained on: optimistic, not calibrated",
    )
    return gather(predictions, given, merge(given), task.space, info, seed=record["settings"]["seed"])


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings as (dotted path, value)."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def write_report(out: Path, facts: Facts) -> None:
    """Write ``report.html``."""
    write_text(out / "report.html", render(facts))


def read_run(out: Path) -> tuple[Task, list[Prediction], list[Candidates], dict[str, Any]]:
    """Task, predictions, answers and record of a finished run.

    Raises
    ------
    MissingFileError
        When the folder is no run, or the run is not finished.
    """
    record = read_record(out)
    if record["run"]["status"] != "finished":
        raise MissingFileError(
            f"the run in {str(out)!r} is not finished", "a finished run", "give its 'candist run' again to continue"
        )
    task = build_task(json.loads((out / "task.json").read_text(encoding="utf-8")))
    return task, read_labels(out), read_annotations(out / "annotations.jsonl"), record
