"""Rows → `Text` values: ids, statuses, gold. Every row comes out, in order."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from candist.data.readers import UNREADABLE, Row, Table
from candist.errors import DataError, did_you_mean, shorten
from candist.records import RowStatus, Text
from candist.task import Task

#: With fewer texts, all of them naming classes may be chance.
LABEL_COLUMN_ROWS = 5


def read_texts(
    table: Table,
    task: Task,
    *,
    extra: Sequence[str] = (),
    max_chars: int = 100_000,
    gold_required: bool = False,
) -> Iterator[tuple[Text, tuple[Any, ...]]]:
    """Yield a text for every row, and beside it the row's cells of the ``extra`` columns (None for a bad row).

    Parameters
    ----------
    table
        From `candist.data.readers.open_table` or `candist.data.frames.from_python`.
    task
        Says which columns hold text, id and gold.
    extra
        Columns with answers on hand.
    max_chars
        Longer texts are ``too_long``.
    gold_required
        Whether a missing gold column is an error; new texts have none.

    Raises
    ------
    DataError
        When a column is missing, before the first row.
    """
    needed = [*task.columns, *([task.id] if task.id else []), *extra, *([task.gold] if gold_required else [])]
    for column in needed:
        if column not in table.columns:
            raise DataError(
                f"no column {column!r} in {table.name}", "a column of the file", did_you_mean(column, table.columns)
            )
    return _texts(table, task, extra, max_chars)


def _texts(table: Table, task: Task, extra: Sequence[str], max_chars: int) -> Iterator[tuple[Text, tuple[Any, ...]]]:
    seen: dict[str, int] = {}
    copies: Counter[str] = Counter()
    for row in table.rows:
        body, status, note = compose(row, task, max_chars)
        own = as_text(row.values.get(task.id)).strip() if task.id else ""
        if not own:
            if task.id and status == "ok":
                status, note = "missing_id", f"row {row.number}: column {task.id!r} is empty"
            own = derived_id(body, copies)
        key = own
        if own in seen:
            key = f"{own}#row{row.number}"
            while key in seen:
                key += "'"
            if status == "ok":
                status, note = "repeated_id", f"row {row.number}: id {own!r} is that of row {seen[own]} too"
        seen[key] = row.number
        gold = as_text(row.values.get(task.gold)).strip() if task.gold else ""
        bad = row.status != "ok"
        cells = tuple(None if bad else row.values.get(column) for column in extra)
        yield Text(key, own, row.number, body, status, note, gold or None), cells


def compose(row: Row, task: Task, max_chars: int) -> tuple[str, RowStatus, str]:
    """The text of a row, its status and what is wrong with it."""
    if row.status != "ok":
        return as_text(row.values.get("", "")), row.status, row.note
    for column in task.columns:
        if isinstance(row.values.get(column), list | dict):
            cell = shorten(row.values[column])
            return as_text(cell), "malformed", f"row {row.number}: column {column!r} holds {cell}, no text"
    body = task.compose({column: as_text(row.values.get(column)) for column in task.columns})
    if UNREADABLE.search(body):
        return UNREADABLE.sub("\ufffd", body), "bad_encoding", f"row {row.number}: the text holds unreadable characters"
    if not body.strip():
        return body, "empty", f"row {row.number}: the text is empty"
    if len(body) > max_chars:
        return body, "too_long", f"row {row.number}: {len(body):,} characters, more than max_chars {max_chars:,}"
    return body, "ok", ""


def as_text(cell: Any) -> str:
    """A cell as text; None is none."""
    return "" if cell is None else str(cell)


def derived_id(body: str, copies: Counter[str]) -> str:
    """An id made from the text: the same text has the same id in every file, its copies are counted."""
    digest = "t" + hashlib.sha256(body.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    copies[digest] += 1
    return digest if copies[digest] == 1 else f"{digest}-{copies[digest]}"


def check_texts(texts: Sequence[Text], task: Task, name: str) -> None:
    """Refuse inputs in which nothing can be labelled (DataError)."""
    if not texts:
        raise DataError(f"{name} has no rows", "at least one text", "check the file")
    usable = [text for text in texts if text.status == "ok"]
    if not usable:
        counts: Mapping[str, int] = Counter(text.status for text in texts)
        listed = ", ".join(f"{rows:,} {status}" for status, rows in sorted(counts.items()))
        raise DataError(f"{name} has no usable row: {listed}", "at least one text", texts[0].note)
    if len(usable) >= LABEL_COLUMN_ROWS and all(task.space.resolve(text.body) for text in usable):
        columns = " and ".join(map(repr, task.columns))
        raise DataError(f"column {columns} of {name} holds only class names", "texts", "set 'text:' to their column")
