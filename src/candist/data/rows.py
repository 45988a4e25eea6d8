"""Rows and tables: what every reader gives, and what the readers share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from candist.errors import DataError
from candist.records import RowStatus

#: How many rows are looked at to learn the columns, where no header names them.
LOOK_AHEAD = 100
#: Surrogates stand for bytes that are no UTF-8 (or come alone out of JSON escapes); no text file can hold either.
UNREADABLE = re.compile("[\0\ud800-\udfff]")
SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Row:
    """One row of an input.

    Attributes
    ----------
    number
        From 1; counts the data rows, the bad ones too.
    values
        Column → cell. CSV cells are text; JSONL, Parquet and frames give any value. A bad row has its raw line under
        ``""``: a ``malformed`` one that alone, a ``bad_encoding`` one beside its cells. What is unreadable shows as
        U+FFFD.
    status, note
        ``ok``, ``malformed`` or ``bad_encoding``, and for the latter two one line that says what is wrong.
    """

    number: int
    values: Mapping[str, Any]
    status: RowStatus = "ok"
    note: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of one input, streamed once. For JSONL, ``columns`` are those of the first rows.

    Attributes
    ----------
    name
        What messages call it.
    columns
        Column names, in order.
    rows
        The rows; memory stays flat. May raise `DataError` where the input breaks off.
    """

    name: str
    columns: tuple[str, ...]
    rows: Iterator[Row]


def look_ahead(rows: Iterator[Row], limit: int = LOOK_AHEAD) -> tuple[list[Row], Iterator[Row]]:
    """The first rows, and all rows."""
    first = list(islice(rows, limit))
    return first, chain(first, rows)


def columns_of(rows: Iterable[Row]) -> tuple[str, ...]:
    """The column names of rows that bring their own, each once, in order of appearance."""
    return tuple(dict.fromkeys(column for row in rows for column in row.values if column))


def check_columns(names: Sequence[str], name: str) -> tuple[str, ...]:
    """Column names without surrounding blanks; none may be empty or come twice (DataError)."""
    columns = tuple(column.strip() for column in names)
    for position, column in enumerate(columns, start=1):
        if not column:
            # what pandas writes by default
            do = "name it or remove it (pandas: index=False)" if position == 1 else "name it or remove it"
            raise DataError(f"{name}: column {position} has no name", "a name for every column", do)
        if column in columns[: position - 1]:
            raise DataError(f"{name}: two columns are named {column!r}", "each name once", "rename or remove one")
    return columns


def has_surrogate(text: str) -> bool:
    """Whether a text has surrogates: bytes that are no UTF-8, or half a character."""
    return not text.isascii() and SURROGATE.search(text) is not None


def readable(value: Any) -> Any:
    """The same value, with U+FFFD for each character that no UTF-8 file can show; lists and mappings too."""
    match value:
        case str():
            return UNREADABLE.sub("\ufffd", value)
        case list() | tuple():
            return [readable(item) for item in value]
        case dict():
            return {readable(key): readable(item) for key, item in value.items()}
        case _:
            return value


def malformed(number: int, raw: str, note: str) -> Row:
    """A row that could not be taken apart."""
    return Row(number, {"": readable(raw)}, "malformed", note)


def bad_encoding(number: int, values: Mapping[str, Any], raw: str, where: str) -> Row:
    """A row that could be taken apart, with bytes that are no UTF-8."""
    return Row(number, readable({**values, "": raw}), "bad_encoding", f"{where}: bytes that are not UTF-8")
