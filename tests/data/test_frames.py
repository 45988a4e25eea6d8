"""Python values → rows: every kind that is taken, every kind that is refused."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas
import polars
import pyarrow
import pytest

from candist.data.frames import from_python
from candist.data.rows import LOOK_AHEAD
from candist.errors import DataError


class Dataset:
    """Stands in for `datasets.Dataset`, which is told by its module's name."""

    def __init__(self, rows: list[dict[str, Any]], column_names: list[str] | None) -> None:
        self.rows, self.column_names = rows, column_names

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)


class IterableDataset(Dataset):
    pass


class DatasetDict(dict[str, Dataset]):
    pass


Dataset.__module__ = "datasets.arrow_dataset"
IterableDataset.__module__ = "datasets.iterable_dataset"
DatasetDict.__module__ = "datasets.dataset_dict"

RECORDS: list[dict[str, Any]] = [{"id": 1, "text": "a"}, {"id": 2, "text": None}]
ARROW = pyarrow.table({"id": [1, 2], "text": ["a", None]})
TAKEN: dict[str, Any] = {
    "list of dicts": RECORDS,
    "tuple of dicts": tuple(RECORDS),
    "iterator of dicts": iter(RECORDS),
    "pandas frame": pandas.DataFrame({"id": [1, 2], "text": ["a", None]}),
    "pandas frame, NA": pandas.DataFrame({"id": [1, 2], " text": pandas.array(["a", pandas.NA], "string")}),
    "pandas frame, index is left out": pandas.DataFrame({"id": [1, 2], "text": ["a", np.nan]}, index=[7, 7]),
    "polars frame": polars.DataFrame({"id": [1, 2], "text": ["a", None]}),
    "Arrow table": pyarrow.table({"id": [1, 2], " text ": ["a", None]}),
    "Arrow table in parts": pyarrow.concat_tables([ARROW.slice(0, 1), ARROW.slice(1)]),
    "Hub data set": Dataset(RECORDS, ["id", "text"]),
    "streamed Hub data set": IterableDataset(RECORDS, None),
}


@pytest.mark.parametrize("kind", TAKEN)
def test_tables_of_columns(kind: str) -> None:
    table = from_python(TAKEN[kind], "mine")
    assert (table.name, table.columns) == ("mine", ("id", "text"))
    rows = list(table.rows)
    assert [(row.number, dict(row.values), row.status) for row in rows] == [
        (1, {"id": 1, "text": "a"}, "ok"),
        (2, {"id": 2, "text": None}, "ok"),
    ]
    assert all(type(row.values["id"]) is int for row in rows)


TEXTS: dict[str, Any] = {
    "list": ["a", None, "b"],
    "tuple": ("a", float("nan"), "b"),
    "iterator": (text for text in ("a", pandas.NA, "b")),
    "pandas series": pandas.Series(["a", None, "b"], name="review"),
    "polars series": polars.Series("review", ["a", None, "b"]),
    "NumPy array": np.array(["a", None, "b"], dtype=object),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_texts_get_the_column_text(kind: str) -> None:
    table = from_python(TEXTS[kind])
    assert table.columns == ("text",)
    assert [dict(row.values) for row in table.rows] == [{"text": "a"}, {"text": None}, {"text": "b"}]


def test_missing_first_texts_do_not_hide_what_the_rest_is() -> None:
    assert [row.values["text"] for row in from_python([None, None, "a"]).rows] == [None, None, "a"]
    assert [row.values["text"] for row in from_python([None]).rows] == [None]
    table = from_python([None, {"text": "a"}])
    assert (table.columns, [row.status for row in table.rows]) == (("text",), ["malformed", "ok"])


def test_cells_are_plain_python() -> None:
    day = datetime.date(2024, 5, 1)
    cells = [np.float64(1.5), np.float32("nan"), pandas.NaT, np.array([1, 2]), np.bool_(True), day, ["x"]]
    frame = pandas.DataFrame({"c": pandas.Series(cells, dtype=object)})
    expected = [1.5, None, None, [1, 2], True, day, ["x"]]
    assert [row.values["c"] for row in from_python(frame).rows] == expected
    assert [row.values["c"] for row in from_python([{"c": cell} for cell in cells]).rows] == expected


def test_columns_of_dicts_are_those_of_the_first_rows() -> None:
    table = from_python([{"a": 1}, {"b": 2, 3: "x"}, {}])
    assert table.columns == ("a", "b", "3")
    assert [dict(row.values) for row in table.rows] == [{"a": 1}, {"b": 2, "3": "x"}, {}]


def test_an_item_of_another_kind_is_a_bad_row() -> None:
    rows = list(from_python(["a", 5, {"text": "b"}]).rows)
    assert [(row.status, row.values, row.note) for row in rows[1:]] == [
        ("malformed", {"": "5"}, "row 2: 5, which is no text"),
        ("malformed", {"": "{'text': 'b'}"}, "row 3: {'text': 'b'}, which is no text"),
    ]
    assert next(from_python(iter([{"text": "a"}, "b"])).rows).status == "ok"
    assert [row.note for row in from_python([{"text": "a"}, "b"]).rows] == ["", "row 2: 'b', which is no dict"]


def test_arrow_text_that_is_no_utf8() -> None:
    binary = pyarrow.array([b"a", b"\xe9"], "binary")
    text = pyarrow.Array.from_buffers(pyarrow.string(), 2, binary.buffers())
    rows = list(from_python(pyarrow.table({"text": text})).rows)
    assert [(row.status, row.values["text"]) for row in rows] == [("ok", "a"), ("bad_encoding", "\ufffd")]


@pytest.mark.parametrize("item", ["a", {"text": "a"}])
def test_iterators_are_not_read_ahead_of_need(item: Any) -> None:
    pulled = 0

    def endless() -> Iterator[Any]:
        nonlocal pulled
        while True:
            pulled += 1
            yield item

    table = from_python(endless())
    assert pulled <= LOOK_AHEAD
    for _ in range(LOOK_AHEAD * 3):
        next(table.rows)
    assert pulled == LOOK_AHEAD * 3


ACCEPTED = (
    "expected a list of texts or of dicts, a data frame or a Series of pandas or polars, a pyarrow Table or a Hub "
    "data set; make a list of it"
)
REFUSED: dict[str, tuple[Any, str]] = {
    "text": ("texts.csv", "data is one text, 'texts.csv'; expected many texts; put it in a list, or open it as a file"),
    "None": (None, f"data is of type NoneType; {ACCEPTED}"),
    "number": (5, f"data is of type int; {ACCEPTED}"),
    "bytes": (b"a", f"data is of type bytes; {ACCEPTED}"),
    "dict": ({"text": ["a"]}, f"data is of type dict; {ACCEPTED}"),
    "set": ({"a"}, f"data is of type set; {ACCEPTED}"),
    "lazy frame": (polars.LazyFrame({"a": [1]}), "data is a LazyFrame; expected a DataFrame; call .collect() on it"),
    "data set of splits": (
        DatasetDict(train=Dataset([], []), test=Dataset([], [])),
        "data is a DatasetDict of 'train', 'test'; expected one split; choose a split",
    ),
    "list of numbers": ([None, 5], "data holds 5 (int); expected texts or dicts; make texts of its items"),
    "frame with a column twice": (
        pandas.DataFrame([[1, 2]], columns=["a", "a"]),
        "data: two columns are named 'a'; expected each name once; rename or remove one",
    ),
    "frame with a column without a name": (
        polars.DataFrame({"a": [1], "": [2]}),
        "data: column 2 has no name; expected a name for every column; name it or remove it",
    ),
    "empty list": ([], "data has no rows; expected at least one text; check where it comes from"),
    "empty frame": (
        pandas.DataFrame({"text": []}),
        "data has no rows; expected at least one text; check where it comes from",
    ),
    "empty Arrow table": (
        pyarrow.table({"text": pyarrow.array([], "string")}),
        "data has no rows; expected at least one text; check where it comes from",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_table_is_refused_in_one_line(kind: str) -> None:
    value, message = REFUSED[kind]
    with pytest.raises(DataError) as caught:
        from_python(value)
    assert str(caught.value) == message


@pytest.mark.parametrize("streamed", [False, True])
def test_a_real_hub_data_set_gives_class_names(streamed: bool) -> None:
    import datasets

    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    data = datasets.Dataset.from_dict({"text": ["a", "b", "c"], "label": [1, 0, -1]}, features=features)
    table = from_python(data.to_iterable_dataset() if streamed else data)
    assert table.columns == ("text", "label")
    assert [row.values["label"] for row in table.rows] == ["yes", "no", None]
