"""Files of texts → rows, streamed: CSV, TSV, JSONL, Parquet, plain lines.

Two kinds of trouble are kept apart. What is wrong with the file as a whole raises one `DataError`; what is wrong with
one row comes out as a `Row` with a status, so that no row is ever lost and the output can show what was there.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
import sys
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from threading import Lock
from typing import Any

from candist.errors import DataError, MissingFileError, did_you_mean
from candist.records import RowStatus

FORMATS = ("csv", "tsv", "jsonl", "parquet", "lines")
SUFFIXES = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".txt": "lines",
}
DELIMITERS = {"csv": ",", "tsv": "\t"}
STDIN = "standard input"
#: How many bytes are looked at to tell what a file is.
HEAD = 1 << 16
#: How many rows are looked at to learn the columns, where no header names them.
LOOK_AHEAD = 100
#: A CSV row of more characters is taken for a quote that was never closed: without a bound it would fill the memory.
MAX_RECORD = 1 << 26
#: A quote that is closed in a wrong place after more lines than this is not repaired: each repair reads them again.
MAX_REPAIR = 1000
#: Parquet rows in memory at once; few, since cells may be large.
BATCH = 256

#: How files start that are not text, what they are, and what to do about it.
MAGIC = (
    (b"PK\x03\x04", "an Excel workbook or other zip archive", "save it as CSV"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel or Word file", "save it as CSV"),
    (b"%PDF-", "a PDF file", "save its texts as CSV"),
    (b"\x1f\x8b", "gzip-compressed", "add .gz to its name, or unpack it"),
    (b"\x28\xb5\x2f\xfd", "zstd-compressed", "unpack it"),
    (b"\xfd7zXZ\x00", "xz-compressed", "unpack it"),
    (b"SQLite format 3\x00", "an SQLite database", "export its table as CSV"),
    (b"PAR1", "a Parquet file", "name its format: --format parquet"),
    (b"ARROW1", "an Arrow (Feather) file", "save it as Parquet"),
    (b"\xff\xfe", "UTF-16 text", "save it as UTF-8"),
    (b"\xfe\xff", "UTF-16 text", "save it as UTF-8"),
)
BOM = b"\xef\xbb\xbf"
#: Surrogates stand for bytes that are no UTF-8 (or come alone out of JSON escapes); no text file can hold either.
UNREADABLE = re.compile("[\0\ud800-\udfff]")
SURROGATE = re.compile("[\ud800-\udfff]")

#: The csv module's limit on a field's length is one for the whole process; see `_next_record`.
_FIELD_LIMIT = Lock()


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


def open_table(source: str | Path, format: str = "") -> Table:
    """Open a file of texts, or standard input for ``"-"``.

    Parameters
    ----------
    source
        A path; text formats may be gzip-compressed (``.gz``).
    format
        One of `FORMATS`; by default the suffix decides. Standard input that starts with ``{`` is JSONL, else lines.

    Raises
    ------
    MissingFileError
        When there is no such file.
    DataError
        When the file cannot be read as a table, with the reason in one line; some reasons show while iterating only.
    """
    format = _known_format(format)
    if str(source) == "-":
        return _open_stdin(format)
    path = Path(source)
    name = str(path)
    stream = _open_bytes(path)
    if not stream.head:
        raise DataError(f"{name} is empty", "at least one text", "check that it was saved")
    if (format or _format_of(path)) == "parquet":
        stream.close()
        return _open_parquet(path)
    _check_head(stream.head, name)
    if not (format := format or _format_of(path)):
        raise DataError(
            f"the format of {name!r} is not known",
            f"a file name that ends in one of {' '.join(SUFFIXES)}",
            f"name its format with --format ({', '.join(FORMATS)})",
        )
    return _open_text(stream, name, format)


def _known_format(format: str) -> str:
    if format and format.casefold() not in FORMATS:
        raise DataError(f"unknown format {format!r}", f"one of {', '.join(FORMATS)}", did_you_mean(format, FORMATS))
    return format.casefold()


def _format_of(path: Path) -> str:
    """The format that a file name speaks of, or ''."""
    name = path.name.casefold()
    return SUFFIXES.get(Path(name.removesuffix(".gz")).suffix, "")


def _open_stdin(format: str) -> Table:
    if format == "parquet":
        raise DataError("Parquet cannot come from standard input", "a file", "name the file instead of '-'")
    if sys.stdin is None:
        raise DataError("there is no standard input", "a pipe or a file", "name the file instead of '-'")
    stream = _Bytes(sys.stdin.buffer, STDIN, descriptor=None)
    _check_head(stream.head, STDIN)
    return _open_text(stream, STDIN, format or ("jsonl" if stream.head.lstrip().startswith(b"{") else "lines"))


def _open_text(raw: _Bytes, name: str, format: str) -> Table:
    # newline="" ends lines at \n, \r\n and \r alike and leaves them as they are inside quoted cells.
    # surrogateescape lets a row with bytes that are no UTF-8 through, so that this row alone is bad.
    stream = io.TextIOWrapper(io.BufferedReader(raw), encoding="utf-8", errors="surrogateescape", newline="")
    if format == "lines":
        return Table(name, ("text",), _line_rows(stream, name))
    if format == "jsonl":
        return _jsonl_table(stream, name)
    return _csv_table(stream, name, format)


# --- bytes ------------------------------------------------------------------------------------------------------------


class _Bytes(io.RawIOBase):
    """An input's bytes without their byte-order mark. ``head`` shows the first ones before they are read.

    Reading errors come as `DataError`. A table may be dropped before its end, or before its first row: then the file,
    open by ``descriptor``, is closed with this object. Python's own file objects would warn, so they do not own it.
    """

    def __init__(self, inner: Any, name: str, descriptor: int | None) -> None:
        self._inner, self._name, self._descriptor = inner, name, descriptor
        head = b""
        while len(head) < HEAD and (chunk := self._read(HEAD - len(head))):
            head += chunk
        self.head = self._ahead = head.removeprefix(BOM)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        chunk = self._ahead[: len(buffer)] or self._read(len(buffer))
        self._ahead = self._ahead[len(chunk) :]
        buffer[: len(chunk)] = chunk
        return len(chunk)

    def close(self) -> None:
        if self._descriptor is not None:
            self._inner.close()
            os.close(self._descriptor)
            self._descriptor = None
        super().close()

    def _read(self, size: int) -> bytes:
        try:
            return bytes(self._inner.read1(size))
        except EOFError:
            raise DataError(f"{self._name} is cut short", "a complete gzip file", "copy or download it again") from None
        except (gzip.BadGzipFile, zlib.error):
            raise DataError(
                f"{self._name} is damaged or no gzip file", "gzip-compressed text", "pack it again, or drop .gz"
            ) from None
        except OSError as error:
            raise DataError(f"{self._name}: {error.strerror or error}", "a readable file", "check the disk") from None


def _open_bytes(path: Path) -> _Bytes:
    """Open a file, unpacking ``.gz``, with our wording of why it cannot be opened."""
    if os.path.isdir(path):
        raise DataError(f"{str(path)!r} is a folder", "a file of texts", "name a file in it")
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a path with a NUL
        raise MissingFileError(f"no file {str(path)!r}", "a file of texts", _near_file(path)) from None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}", "a readable file", "check its permissions") from None
    file: Any = open(descriptor, "rb", closefd=False)  # noqa: SIM115
    if path.name.casefold().endswith(".gz"):
        file = gzip.GzipFile(fileobj=file)
    return _Bytes(file, str(path), descriptor)


def _near_file(path: Path) -> str:
    """``did you mean`` a file of the same folder, or what else to do."""
    try:
        siblings = sorted(os.listdir(path.parent))
    except (OSError, ValueError):
        siblings = []
    hint = did_you_mean(path.name, siblings)
    return hint if hint.startswith("did") else "check the path"


def _check_head(head: bytes, name: str) -> None:
    """Refuse what is empty or no text, by its first bytes (DataError)."""
    if len(head) < HEAD and not head.strip():
        raise DataError(f"{name} is empty", "at least one text", "check that it was saved")
    for start, what, do in MAGIC:
        if head.startswith(start):
            raise DataError(f"{name} is {what}", "UTF-8 text", do)
    # A NUL in a later row spoils that row alone; in the first line, or many of them, they mean that this is no text.
    if b"\0" in head.split(b"\n", 1)[0] or head.count(b"\0") * 10 > len(head):
        raise DataError(f"{name} is a binary file", "UTF-8 text", "save it as CSV, JSONL or Parquet")


# --- lines and JSONL --------------------------------------------------------------------------------------------------


def _line_rows(stream: Iterable[str], name: str) -> Iterator[Row]:
    """Every line is a row of the one column ``text``, a blank one too."""
    blank = True
    for number, line in enumerate(stream, start=1):
        text = line.rstrip("\r\n")
        blank = blank and not text.strip()
        if "\0" in text:
            yield malformed(number, text, f"line {number}: a NUL character")
        elif has_surrogate(text):
            yield _bad_encoding(number, {"text": text}, text, f"line {number}")
        else:
            yield Row(number, {"text": text})
    if blank:
        raise DataError(f"{name} is empty", "at least one text", "check that it was saved")


def _jsonl_table(stream: Iterable[str], name: str) -> Table:
    first, rows = look_ahead(_jsonl_rows(stream))
    start = str(first[0].values.get("", "")).lstrip() if first else ""
    if not first:
        raise DataError(f"{name} is empty", "at least one JSON object", "check that it was saved")
    if re.match(r"\[\s*(\{|$)", start):
        raise DataError(f"{name} holds a JSON array", "JSONL: one object a line", "write each object on its own line")
    if all(row.status == "malformed" for row in first):
        many = f"the first {len(first)} lines" if len(first) == LOOK_AHEAD else "its lines"
        raise DataError(
            f"{name}: none of {many} is a JSON object", "JSONL: one object a line", f"first, {first[0].note}"
        )
    return Table(name, columns_of(first), rows)


def _jsonl_rows(stream: Iterable[str]) -> Iterator[Row]:
    filled = ((where, line) for where, line in enumerate(stream, start=1) if line.strip())
    for number, (where, line) in enumerate(filled, start=1):
        yield _json_row(number, line, f"line {where}")


def _json_row(number: int, line: str, where: str) -> Row:
    raw = line.rstrip("\r\n")
    try:
        value = json.loads(raw, parse_constant=_constant)
    except json.JSONDecodeError as error:
        return malformed(number, raw, f"{where}: broken JSON ({error.msg}, character {error.colno})")
    except (ValueError, RecursionError) as error:  # numbers of too many digits; lists in lists in lists
        return malformed(number, raw, f"{where}: JSON that cannot be read ({error})")
    if not isinstance(value, dict):
        return malformed(number, raw, f"{where}: JSON that is no object")
    values = {key.strip(): cell for key, cell in value.items()}
    if len(values) < len(value):
        return malformed(number, raw, f"{where}: names that differ in blanks only")
    if has_surrogate(raw):
        return _bad_encoding(number, values, raw, where)
    return Row(number, values)


def _constant(name: str) -> float | None:
    """``NaN`` is how Python's json writes a missing value."""
    return None if name == "NaN" else float(name)


# --- CSV and TSV ------------------------------------------------------------------------------------------------------


class _Lines:
    """Physical lines for the csv module: counted, blank ones between rows left out, those of one row remembered.

    The remembered ones are needed to show a bad row as it was, and to go back where a stray quote ran over good rows.
    """

    def __init__(self, stream: Iterable[str], name: str) -> None:
        self._stream, self._name = iter(stream), name
        self._again: deque[str] = deque()
        self._number = 0
        self._size = 0
        self.record: list[str] = []
        self.ended = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        while True:
            try:
                line = self._again.popleft() if self._again else next(self._stream)
            except StopIteration:
                self.ended = True
                raise
            self._number += 1
            if self.record or line.strip(" \r\n"):
                break
        self.record.append(line)
        self._size += len(line)
        if self._size > MAX_RECORD:
            raise DataError(
                f"{self._name}: the row that starts on line {self.first} is longer than {MAX_RECORD:,} characters",
                "every quote to be closed",
                "close the quote, or shorten the row",
            )
        return line

    def start(self) -> None:
        """Begin a new row."""
        self.record, self._size = [], 0

    def keep(self, count: int) -> None:
        """Leave the row its first ``count`` lines; the others are read again."""
        self._again.extendleft(reversed(self.record[count:]))
        self._number -= len(self.record) - count
        del self.record[count:]

    @property
    def first(self) -> int:
        """The number of the row's first line."""
        return self._number - len(self.record) + 1

    @property
    def where(self) -> str:
        """The row's lines, for messages."""
        return f"line {self._number}" if len(self.record) == 1 else f"lines {self.first} to {self._number}"

    @property
    def raw(self) -> str:
        """The row as it stands in the file."""
        return "".join(self.record).rstrip("\r\n")


def _csv_table(stream: Iterable[str], name: str, format: str) -> Table:
    delimiter = DELIMITERS[format]
    lines = _Lines(stream, name)
    records = csv.reader(lines, delimiter=delimiter, strict=True)
    columns = _header(lines, records, name, format)
    first, rows = look_ahead(_csv_rows(lines, records, columns, name, delimiter), limit=1)
    if not first:
        raise DataError(f"{name} has a header and no rows", "at least one row", "check that it was saved")
    return Table(name, columns, rows)


def _header(lines: _Lines, records: Iterator[list[str]], name: str, format: str) -> tuple[str, ...]:
    """Read and check the first row: the column names (DataError)."""
    try:
        names = _next_record(records)
    except StopIteration:
        raise DataError(f"{name} is empty", "at least one text", "check that it was saved") from None
    except csv.Error as error:
        if lines.ended:
            raise _unclosed(lines, name, DELIMITERS[format]) from None
        raise DataError(f"{name}, line {lines.first}: {error}", "a row of column names", "mend the header") from None
    if has_surrogate(lines.raw):
        raise DataError(f"{name}, {lines.where}: bytes that are not UTF-8", "UTF-8 text", "save it as UTF-8")
    if len(names) == 1 and format == "csv" and "\t" in names[0]:
        raise DataError(f"{name} has tabs between its columns", "commas", "did you mean --format tsv?")
    if len(names) == 1 and format == "csv" and ";" in names[0]:
        raise DataError(f"{name} has semicolons between its columns", "commas", "save it with commas")
    if len(names) == 1 and format == "tsv" and "," in names[0]:
        raise DataError(f"{name} has commas between its columns", "tabs", "did you mean --format csv?")
    return check_columns(names, name)


def _next_record(records: Iterator[list[str]]) -> list[str]:
    """Read one CSV row with cells of any length.

    The csv module refuses cells of more than 131,072 characters, by a limit that is global. It is lifted for this one
    call and put back, so that other code in the process keeps the limit it has; the lock keeps two threads from putting
    back each other's value.
    """
    with _FIELD_LIMIT:
        before = csv.field_size_limit(MAX_RECORD)
        try:
            return next(records)
        finally:
            csv.field_size_limit(before)


def _csv_rows(
    lines: _Lines, records: Iterator[list[str]], columns: Sequence[str], name: str, delimiter: str
) -> Iterator[Row]:
    number = 0
    while True:
        lines.start()
        number += 1
        try:
            cells = _next_record(records)
        except StopIteration:
            return
        except csv.Error as error:
            if lines.ended:
                raise _unclosed(lines, name, delimiter) from None
            _go_back(lines, len(columns), name, delimiter)
            yield malformed(number, lines.raw, f"{lines.where}: broken quotes ({error})")
            continue
        if any("\0" in line for line in lines.record):
            yield malformed(number, lines.raw, f"{lines.where}: a NUL character")
        elif len(cells) != len(columns):
            got = "1 field" if len(cells) == 1 else f"{len(cells)} fields"
            yield malformed(number, lines.raw, f"{lines.where}: {got}; expected {len(columns)}")
        elif any(has_surrogate(line) for line in lines.record):
            yield _bad_encoding(number, dict(zip(columns, cells, strict=True)), lines.raw, lines.where)
        else:
            yield Row(number, dict(zip(columns, cells, strict=True)))


def _go_back(lines: _Lines, width: int, name: str, delimiter: str) -> None:
    """Give back the good rows that a stray quote ran over: from the first line on that has the right number of fields.

    A quote that opens on line 2 and is not closed there runs on to the next quote, maybe thousands of rows below.
    """
    if len(lines.record) > MAX_REPAIR:
        raise _unclosed(lines, name, delimiter)
    for count in range(1, len(lines.record)):
        try:
            fields = next(csv.reader(lines.record[count : count + 1], delimiter=delimiter), [])
        except csv.Error:  # a cell beyond the module's limit, which is not lifted for this guess
            continue
        if len(fields) == width:
            lines.keep(count)
            return


def _unclosed(lines: _Lines, name: str, delimiter: str) -> DataError:
    """The error for a quote that is never closed, with the line on which it was opened."""
    text = "".join(lines.record)
    field = re.compile(rf'(?:"[^"]*+(?:""[^"]*+)*+"|(?!")[^{delimiter}\r\n]*+){delimiter}')
    start = 0
    while match := field.match(text, start):
        start = match.end()
    line = lines.first + len(re.findall(r"\r\n|\r|\n", text[:start]))
    return DataError(
        f"{name}, line {line}: a quote is opened and not closed", "a closing quote", "close it or remove it"
    )


# --- Parquet ----------------------------------------------------------------------------------------------------------


def _open_parquet(path: Path) -> Table:
    import pyarrow
    import pyarrow.parquet

    name = str(path)
    if not path.is_file():  # a pipe: Parquet is read from its end
        raise DataError(f"{name} is no regular file", "a Parquet file", "save it first, then name the file")
    try:
        file = pyarrow.parquet.ParquetFile(name)
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).split(". ")[0].rstrip(".")
        raise DataError(f"{name}: {reason}", "a Parquet file", "check it, or name its format with --format") from None
    columns = check_columns(file.schema_arrow.names, name)
    first, rows = look_ahead(batch_rows(_parquet_batches(file, name), columns), limit=1)
    if not first:
        raise DataError(f"{name} has no rows", "at least one row", "check that it was saved")
    return Table(name, columns, rows)


def _parquet_batches(file: Any, name: str) -> Iterator[Any]:
    import pyarrow

    with file:
        try:
            yield from file.iter_batches(batch_size=BATCH)
        except (pyarrow.ArrowException, OSError) as error:
            reason = str(error).split(". ")[0].rstrip(".")
            raise DataError(f"{name}: {reason}", "a complete Parquet file", "copy or write it again") from None


def batch_rows(batches: Iterable[Any], columns: Sequence[str]) -> Iterator[Row]:
    """Rows of Arrow record batches, with ``columns`` for their column names."""
    number = 0
    for batch in batches:
        try:
            cells = zip(*(column.to_pylist() for column in batch.columns), strict=True)
            rows = [Row(number + i, dict(zip(columns, row, strict=True))) for i, row in enumerate(cells, start=1)]
        except UnicodeDecodeError:
            rows = [_scalar_row(number + 1 + i, batch.slice(i, 1), columns) for i in range(batch.num_rows)]
        yield from rows
        number += batch.num_rows


def _scalar_row(number: int, batch: Any, columns: Sequence[str]) -> Row:
    """The row of a batch of one, cell by cell: Arrow does not check that its text is UTF-8."""
    try:
        return Row(number, {name: column[0].as_py() for name, column in zip(columns, batch.columns, strict=True)})
    except UnicodeDecodeError:
        values = {name: _undecoded(column[0]) for name, column in zip(columns, batch.columns, strict=True)}
        raw = " ".join(value for value in values.values() if isinstance(value, str))
        return _bad_encoding(number, values, raw, f"row {number}")


def _undecoded(cell: Any) -> Any:
    """A scalar's value, with surrogates for bytes that are no UTF-8; None for a list that holds such bytes."""
    try:
        return cell.as_py()
    except UnicodeDecodeError:
        if not hasattr(cell, "as_buffer"):
            return None
        return cell.as_buffer().to_pybytes().decode("utf-8", "surrogateescape")


# --- shared with `frames` and `texts` ---------------------------------------------------------------------------------


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


def _bad_encoding(number: int, values: Mapping[str, Any], raw: str, where: str) -> Row:
    """A row that could be taken apart, with bytes that are no UTF-8."""
    return Row(number, readable({**values, "": raw}), "bad_encoding", f"{where}: bytes that are not UTF-8")
