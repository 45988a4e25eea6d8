"""What Python users have at hand (lists, pandas, polars, Arrow, Hub data sets) → a `Table` of rows, streamed.

The libraries are told by the module names of their classes, so that none of them has to be installed or imported.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from itertools import chain, islice
from typing import Any

from candist.data.parquet import batch_rows
from candist.data.rows import LOOK_AHEAD, Row, Table, check_columns, columns_of, look_ahead, malformed
from candist.errors import DataError, shorten

#: Python would let us iterate over these, to no good.
REFUSED = (("polars", "LazyFrame"), ("datasets", "DatasetDict"), ("datasets", "IterableDatasetDict"))
ACCEPTED = (
    "a list of texts or of dicts, a data frame or a Series of pandas or polars, a pyarrow Table or a Hub data set"
)


def from_python(data: object, name: str = "data") -> Table:
    """Read texts that are in memory, or come from an iterator.

    Parameters
    ----------
    data
        A list, iterator or the like of texts or of dicts, a pandas or polars DataFrame or Series, a pyarrow Table, or a
        ``datasets`` Dataset or IterableDataset. Texts without a column name get the column ``text``. Missing values
        (NaN, NA, NaT) become None.
    name
        What messages call it.

    Raises
    ------
    DataError
        When it is something else or holds no rows.
    """
    value: Any = data
    if _is(value, "pandas", "DataFrame"):
        names = [str(column) for column in value.columns]
        return _framed(name, names, value.itertuples(index=False, name=None))
    if _is(value, "polars", "DataFrame"):
        return _framed(name, value.columns, value.iter_rows())
    if _is(value, "pyarrow", "Table"):
        columns = check_columns(value.column_names, name)
        return _filled(name, columns, (_plain_row(row) for row in batch_rows(value.to_batches(), columns)))
    if _is(value, "pandas", "Series") or _is(value, "polars", "Series"):
        return _items(name, iter(value))
    if _is(value, "datasets", "Dataset") or _is(value, "datasets", "IterableDataset"):
        return _items(name, _with_class_names(value), value.column_names or ())
    if _ordered(value):
        return _items(name, iter(value))
    raise _refusal(value, name)


def _is(value: object, package: str, kind: str) -> bool:
    """Whether a value is an instance of a package's class, or of a class derived from it."""
    return any(base.__name__ == kind and base.__module__.split(".")[0] == package for base in type(value).__mro__)


def _ordered(value: Any) -> bool:
    """Whether a value is a list, an iterator or the like: no single text, no mapping, no set."""
    if any(_is(value, *kind) for kind in REFUSED):
        return False
    if hasattr(value, "read"):  # an open file gives lines, its header among them; `open_table` knows better
        return False
    return isinstance(value, Iterable) and not isinstance(value, str | bytes | bytearray | Mapping | Set)


def _with_class_names(dataset: Any) -> Iterator[Any]:
    """A Hub data set's rows; its ClassLabel columns hold numbers (-1: unknown), we want the names."""
    features = (getattr(dataset, "features", None) or {}).items()
    names = {column: feature.names for column, feature in features if _is(feature, "datasets", "ClassLabel")}
    for row in dataset:
        coded = {column: row[column] for column in names if isinstance(row[column], int)}
        yield row | {column: names[column][k] if k >= 0 else None for column, k in coded.items()}


def _refusal(value: Any, name: str) -> DataError:
    """The error for what is no table of texts, with the way out where there is one."""
    if isinstance(value, str):
        return DataError(
            f"{name} is one text, {shorten(value)}", "many texts", "put it in a list, or open it as a file"
        )
    if _is(value, "polars", "LazyFrame"):
        return DataError(f"{name} is a LazyFrame", "a DataFrame", "call .collect() on it")
    if _is(value, "datasets", "DatasetDict") or _is(value, "datasets", "IterableDatasetDict"):
        splits = ", ".join(repr(str(split)) for split in value)
        return DataError(f"{name} is a {type(value).__name__} of {splits}", "one split", "choose a split")
    return DataError(f"{name} is of type {type(value).__name__}", ACCEPTED, "make a list of it")


def _framed(name: str, names: Sequence[str], records: Iterable[Sequence[Any]]) -> Table:
    """A table of tuples."""
    columns = check_columns(names, name)
    numbered = enumerate(records, start=1)
    rows = (Row(number, dict(zip(columns, map(plain, cells), strict=True))) for number, cells in numbered)
    return _filled(name, columns, rows)


def _items(name: str, items: Iterator[Any], names: Sequence[str] = ()) -> Table:
    """A table of texts or of mappings; the first item that is there says which."""
    ahead = list(islice(items, 1))
    while ahead and plain(ahead[-1]) is None and len(ahead) < LOOK_AHEAD and (more := list(islice(items, 1))):
        ahead += more
    kind = ahead[-1] if ahead else None
    numbered = enumerate(chain(ahead, items), start=1)
    if isinstance(kind, Mapping):
        first, rows = look_ahead(_mapping_row(number, item) for number, item in numbered)
        return _filled(name, check_columns(names, name) if names else columns_of(_well_formed(first)), rows)
    if isinstance(kind, str) or plain(kind) is None:
        return _filled(name, ("text",), (_text_row(number, item) for number, item in numbered))
    raise DataError(
        f"{name} holds {shorten(kind)} ({type(kind).__name__})", "texts or dicts", "make texts of its items"
    )


def _filled(name: str, columns: tuple[str, ...], rows: Iterator[Row]) -> Table:
    """A table, refused when it has no row."""
    first, rows = look_ahead(rows, limit=1)
    if not first:
        raise DataError(f"{name} has no rows", "at least one text", "check where it comes from")
    return Table(name, columns, rows)


def _well_formed(rows: Iterable[Row]) -> Iterator[Row]:
    return (row for row in rows if row.status == "ok")


def _text_row(number: int, item: object) -> Row:
    text = plain(item)
    if text is None or isinstance(text, str):
        return Row(number, {"text": text})
    return malformed(number, str(text), f"row {number}: {shorten(text)}, which is no text")


def _mapping_row(number: int, item: object) -> Row:
    if isinstance(item, Mapping):
        return Row(number, {str(key).strip(): plain(cell) for key, cell in item.items()})
    return malformed(
        number, "" if plain(item) is None else str(item), f"row {number}: {shorten(item)}, which is no dict"
    )


def _plain_row(row: Row) -> Row:
    return Row(row.number, {column: plain(cell) for column, cell in row.values.items()}, row.status, row.note)


def plain(value: Any) -> Any:
    """A cell as plain Python: None for every kind of missing value, a list or number for what NumPy holds."""
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    if hasattr(value, "tolist"):
        value = value.tolist()
    return None if isinstance(value, float) and value != value else value
