"""Python values → rows: lists, pandas and polars frames, Arrow tables, Hub data sets. Streamed where they stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from candist.data.readers import Row, Table, columns_of, look_ahead
from candist.errors import DataError, shorten


def from_python(data: Any, name: str = "data") -> Table:
    """Make a table of a Python value.

    Parameters
    ----------
    data
        A list or iterator of texts (column ``text``) or of dicts; a pandas or polars frame or series; an Arrow table;
        a Hub data set (`datasets.Dataset`, `datasets.IterableDataset`).
    name
        What messages call it.

    Raises
    ------
    DataError
        When it is something else.
    """
    # Told by the module's name, so that none of these packages is imported or needed.
    home, kind = type(data).__module__.split(".")[0], type(data).__name__
    match home, kind:
        case "pandas", "DataFrame":
            names = [str(column) for column in data.columns]
            return table(name, names, (dict(zip(names, row, strict=True)) for row in data.itertuples(False, None)))
        case "pandas", "Series":
            return table(name, ["text"], ({"text": cell} for cell in data))
        case "polars", "DataFrame":
            return table(name, data.columns, data.iter_rows(named=True))
        case "polars", "Series":
            return table(name, ["text"], ({"text": cell} for cell in data))
        case "polars", "LazyFrame":
            raise DataError("a polars LazyFrame came", "a DataFrame", "call .collect() first")
        case "pyarrow", "Table":
            return table(name, data.column_names, (row for part in data.to_batches() for row in part.to_pylist()))
        case "datasets", "DatasetDict" | "IterableDatasetDict":
            splits = ", ".join(map(repr, data))
            raise DataError(
                f"a {kind} with splits {splits} came", "one split", "choose one, for instance data['train']"
            )
        case "datasets", _:
            return table(name, data.column_names or (), iter(data))
    if isinstance(data, str | bytes | Mapping) or not isinstance(data, Iterable):
        raise DataError(
            f"a value of type {kind} came: {shorten(data)}",
            "a path, a list of texts or dicts, a data frame or a data set",
            "put a single text into a list",
        )
    return from_values(iter(data), name)


def from_values(values: Iterator[Any], name: str) -> Table:
    """A table of texts, or of dicts; which, the first value tells."""
    first, rows = look_ahead(as_row(number, value, name) for number, value in enumerate(values, 1))
    return Table(name, columns_of(first), rows)


def as_row(number: int, value: Any, name: str) -> Row:
    """One text or dict as a row."""
    if isinstance(value, Mapping):
        return Row(number, {str(key): clean(cell) for key, cell in value.items()})
    if value is None or isinstance(value, str) or value != value:
        return Row(number, {"text": clean(value)})
    raise DataError(f"item {number} of {name} is {shorten(value)}", "texts or dicts", "turn it into a text")


def table(name: str, columns: Iterable[str], values: Iterable[Mapping[str, Any]]) -> Table:
    """A table whose columns are known."""
    rows = (Row(n, {str(k): clean(v) for k, v in value.items()}) for n, value in enumerate(values, 1))
    return Table(name, tuple(map(str, columns)), rows)


def clean(cell: Any) -> Any:
    """A cell without the many kinds of "missing": NaN, NaT, NA and None are None; arrays are lists."""
    if hasattr(cell, "tolist"):
        cell = cell.tolist()
    if isinstance(cell, float) and cell != cell:
        return None
    return None if type(cell).__name__ in ("NAType", "NaTType") else cell
