"""The main road, and the only place where teacher meets student: `run`, `distil`, `annotate`, `label`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from candist import encoders
from candist.config import build
from candist.data.frames import from_python
from candist.data.readers import open_table
from candist.data.rows import Table
from candist.data.tables import batched
from candist.data.texts import check_texts, read_texts
from candist.errors import ModelError, SettingsError, TaskError, did_you_mean
from candist.pipeline import answers as on_hand
from candist.pipeline.decide import decide_new
from candist.pipeline.finished import Run
from candist.pipeline.settings import Settings
from candist.pipeline.stages import Progress, ask_offline, execute, silent
from candist.records import Candidates, Prediction, Text
from candist.task import Task

__all__ = ["Run", "Settings", "annotate", "distil", "label", "run"]

CHUNK = 10_000


def run(
    task: Task,
    texts: Any,
    out: str | Path,
    *,
    candidates: Sequence[str] = (),
    settings: Settings | None = None,
    format: str = "",
    force: bool = False,
    progress: Progress = silent,
) -> Run:
    """Label texts: candidate sets from the teacher, a student trained on them, one label a row.

    Parameters
    ----------
    task
        From `Task.load` or built in Python; or a task file's path.
    texts
        A file's path ("-" for standard input), a pandas or polars frame, a Hub data set, or a list of texts or dicts.
    out
        The run folder. A stopped run there goes on; a finished one of the same task, texts and settings is read back.
    candidates
        Answers on hand instead of a teacher: names of columns, or of JSONL files as ``answers.jsonl:field``.
    settings
        All else.
    format
        Of the file, where its name does not tell.
    force
        Remove an earlier run in ``out``.
    progress
        Called with (stage, done, total).

    Raises
    ------
    CandistError
        One of its kinds, before anything is written.
    """
    task, settings = checked(task, settings)
    candidates = (candidates,) if isinstance(candidates, str) else tuple(candidates)
    if strange := [name for name in candidates if not isinstance(name, str)]:
        raise SettingsError(f"candidates has {strange[0]!r}", "names of columns or files", "for answers, use distil")
    columns = [name for name in candidates if not on_hand.is_file(name)]
    table = open_any(texts, format)
    read, cells = collect(table, task, settings, columns)
    sources: dict[str, list[Candidates]] = {}
    for i, column in enumerate(columns):
        sources |= {column: on_hand.from_python({column: [row[i] for row in cells]}, read, task.space)}
    for name in candidates:
        if on_hand.is_file(name):
            sources[name] = on_hand.read_answers(name, read, task.space)
    ordered = [answer for name in candidates for answer in sources[name]] if candidates else None
    return execute(
        task,
        read,
        folder(out),
        answers=ordered,
        settings=settings,
        name=table.name,
        notes=oddities(table, task),
        force=force,
        progress=progress,
    )


def distil(
    task: Task,
    texts: Any,
    candidates: Sequence[Any] | Mapping[str, Sequence[Any]],
    out: str | Path,
    *,
    settings: Settings | None = None,
    force: bool = False,
    progress: Progress = silent,
) -> Run:
    """Label texts from answers that are there already.

    Parameters
    ----------
    candidates
        One answer a text, in the texts' order: a class name, a list of them (preferred first), or None. Several
        sources: a mapping of their names to such lists.

    The other parameters are those of `run`.
    """
    task, settings = checked(task, settings)
    table = open_any(texts)
    read, _ = collect(table, task, settings, ())
    given = on_hand.from_python(candidates, read, task.space)
    return execute(
        task,
        read,
        folder(out),
        answers=given,
        settings=settings,
        name=table.name,
        notes=oddities(table, task),
        force=force,
        progress=progress,
    )


def annotate(task: Task, texts: Any, *, settings: Settings | None = None) -> list[Candidates]:
    """Candidate sets of the offline teacher alone, one a usable text; no student, no files.

    Texts are standardised among themselves: a handful of them tells the teacher little about what is usual.
    """
    task, settings = checked(task, settings)
    read, _ = collect(open_any(texts), task, settings, ())
    usable = [text for text in read if text.status == "ok"]
    encoder = encoders.load(settings.encoder)
    vectors, _ = encoders.embed(
        encoder, [text.body for text in usable], long=settings.long, cache=encoders.cache_folder()
    )
    return list(ask_offline(task, usable, vectors, encoder, settings))


def label(
    model: str | Path,
    texts: Any,
    *,
    format: str = "",
    settings: Settings | None = None,
    progress: Progress = silent,
) -> Iterator[Prediction]:
    """Label new texts with a student, `CHUNK` rows at a time; every row comes out, in order.

    Parameters
    ----------
    model
        The ``model`` folder of a run.
    texts, format, progress
        As for `run`. The model's task says which columns make the text; a gold column is read where it is there.
    settings
        Of these, ``max_chars`` and ``review_below`` count.

    Raises
    ------
    CandistError
        One of its kinds.
    """
    from candist.student import predict

    settings = settings or Settings()
    student = predict.load(Path(model))
    encoder = encoders.load(student.encoder)
    if encoder.fingerprint != student.fingerprint:
        raise ModelError(
            f"the student in {str(model)!r} was trained on another version of encoder {student.encoder!r}",
            "the same weights",
            "name the folder with those weights in its model.json, or train again",
        )
    table = open_any(texts, format)
    rows = read_texts(table, student.task, max_chars=settings.max_chars)
    done = 0
    for part in batched((text for text, _ in rows), CHUNK):
        usable = [text for text in part if text.status == "ok"]
        vectors, _ = encoders.embed(encoder, [text.body for text in usable], long=student.long)
        found = student.probabilities(vectors)
        probs = {text.key: found[i] for i, text in enumerate(usable)}
        yield from decide_new(part, probs, student.task.space, settings.review_below)
        done += len(part)
        progress("label", done, 0)


def checked(task: Any, settings: Any) -> tuple[Task, Settings]:
    """Task and settings as values: a path is read, a mapping is built, anything else refused (CandistError)."""
    if isinstance(task, str | Path):
        task = Task.load(task)
    if not isinstance(task, Task):
        raise TaskError(f"the task is a {type(task).__name__}", "a Task, or a task file's path", "use Task.load")
    if isinstance(settings, Mapping):
        settings = build(Settings, settings)
    if not isinstance(settings, Settings | None):
        raise SettingsError(f"settings is a {type(settings).__name__}", "Settings", "use Settings(...)")
    return task, settings or Settings()


def folder(out: Any) -> Path:
    """The run folder's path (SettingsError for what is none)."""
    if not isinstance(out, str | Path) or not str(out):
        raise SettingsError(f"out is {out!r}", "the path of a folder", "name one, for instance 'runs/a'")
    return Path(out)


def open_any(texts: Any, format: str = "") -> Table:
    """A table from a path or from Python values."""
    return open_table(texts, format) if isinstance(texts, str | Path) else from_python(texts)


def oddities(table: Table, task: Task) -> list[str]:
    """What a user would want to know of the columns, though it stops nothing."""
    if task.gold and task.gold not in table.columns:
        hint = did_you_mean(task.gold, table.columns)
        return [f"nothing is scored: {table.name} has no gold column {task.gold!r}; {hint}"]
    return []


def collect(
    table: Table, task: Task, settings: Settings, columns: Sequence[str]
) -> tuple[list[Text], list[tuple[Any, ...]]]:
    """All rows of a table, checked; beside them their cells of ``columns``."""
    rows = list(read_texts(table, task, extra=columns, max_chars=settings.max_chars))
    texts = [text for text, _ in rows]
    check_texts(texts, task, table.name)
    return texts, [cells for _, cells in rows]
