"""Parquet files and Arrow batches → rows. pyarrow is imported when it is needed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from candist.data.rows import Row, Table, bad_encoding, check_columns, look_ahead
from candist.errors import DataError

#: Parquet rows in memory at once; few, since cells may be large.
BATCH = 256


def open_parquet(path: Path) -> Table:
    """Open a Parquet file, streamed (DataError when it is none)."""
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
        return bad_encoding(number, values, raw, f"row {number}")


def _undecoded(cell: Any) -> Any:
    """A scalar's value, with surrogates for bytes that are no UTF-8; None for a list that holds such bytes."""
    try:
        return cell.as_py()
    except UnicodeDecodeError:
        if not hasattr(cell, "as_buffer"):
            return None
        return cell.as_buffer().to_pybytes().decode("utf-8", "surrogateescape")
