"""Rows → texts: every row once, in order, with an id, a key of its own and a status."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from candist.data.frames import from_python
from candist.data.readers import open_table
from candist.data.rows import Row, Table
from candist.data.texts import check_texts, read_texts
from candist.errors import DataError
from candist.records import Text
from candist.task import Task

LABELS = {"red": "", "blue": {"description": "", "aliases": ["azure"]}}


def task(**values: Any) -> Task:
    return Task.model_validate({"name": "colours", "labels": LABELS, **values})


WITH_IDS = task(id="id", gold="gold")


def texts_of(rows: list[Any], of: Task = WITH_IDS, **options: Any) -> list[Text]:
    return [text for text, _ in read_texts(from_python(rows, "texts.csv"), of, **options)]


def derived(body: str) -> str:
    return "t" + hashlib.sha256(body.encode()).hexdigest()[:12]


# --- columns ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ({"text": "txt"}, {}, "no column 'txt' in texts.csv; expected the task's text column; did you mean 'text'?"),
        (
            {"text": ["text", "title"]},
            {},
            "no column 'title' in texts.csv; expected the task's text column; did you mean 'ttle'?",
        ),
        (
            {"template": "{ID}: {text}"},
            {},
            "no column 'ID' in texts.csv; expected the task's text column; did you mean 'id'?",
        ),
        (
            {"id": "number"},
            {},
            "no column 'number' in texts.csv; expected the task's id column; known are 'id', 'text', 'ttle'",
        ),
        (
            {},
            {"extra": ["ids"]},
            "no column 'ids' in texts.csv; expected a column of candidate answers; did you mean 'id'?",
        ),
    ],
)
def test_a_missing_column_is_refused_before_any_row_is_read(
    values: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    def rows() -> Iterator[Row]:
        raise AssertionError("a row was read")
        yield

    with pytest.raises(DataError) as caught:
        read_texts(Table("texts.csv", ("id", "text", "ttle"), rows()), task(**values), **options)
    assert str(caught.value) == message


def test_new_data_needs_no_gold() -> None:
    assert [text.gold for text in texts_of([{"id": 1, "text": "a"}])] == [None]


def test_lines_have_the_column_text_alone(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("a\n\nb\n")
    found = [text for text, _ in read_texts(open_table(tmp_path / "t.txt"), task())]
    assert [(text.row, text.body, text.status) for text in found] == [(1, "a", "ok"), (2, "", "empty"), (3, "b", "ok")]
    with pytest.raises(DataError, match=r"no column 'id' in .*t.txt; expected the task's id column; known are 'text'"):
        read_texts(open_table(tmp_path / "t.txt"), WITH_IDS)


# --- bodies and statuses ----------------------------------------------------------------------------------------------

#: cause: the row's values, the body, the status, the note
ROWS: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "fine": ({"text": " a\nb "}, " a\nb ", "ok", ""),
    "a number": ({"text": 1.5}, "1.5", "ok", ""),
    "a truth value": ({"text": True}, "True", "ok", ""),
    "empty": ({"text": ""}, "", "empty", "row 1: the text is empty"),
    "white space": ({"text": " \t\u00a0\n"}, " \t\u00a0\n", "empty", "row 1: the text is empty"),
    "None": ({"text": None}, "", "empty", "row 1: the text is empty"),
    "no such key": ({"other": "a"}, "", "empty", "row 1: the text is empty"),
    "too long": ({"text": "x" * 1001}, "x" * 1001, "too_long", "row 1: 1,001 characters, more than max_chars 1,000"),
    "just not too long": ({"text": "x" * 1000}, "x" * 1000, "ok", ""),
    "a list": ({"text": ["é"]}, '["é"]', "malformed", "row 1: column 'text' holds ['é'], no text"),
    "a mapping": ({"text": {"a": 1}}, '{"a": 1}', "malformed", "row 1: column 'text' holds {'a': 1}, no text"),
    "bytes": ({"text": b"a"}, "b'a'", "malformed", "row 1: column 'text' holds b'a', no text"),
    "half a character": (
        {"text": "a\ud83d"},
        "a\ufffd",
        "bad_encoding",
        "row 1: the text holds unreadable characters",
    ),
    "NUL": ({"text": "a\0"}, "a\ufffd", "bad_encoding", "row 1: the text holds unreadable characters"),
    "missing id": ({"text": "a", "id": " "}, "a", "missing_id", "row 1: column 'id' is empty"),
    "None for an id": ({"text": "a", "id": None}, "a", "missing_id", "row 1: column 'id' is empty"),
    "a list for an id": ({"text": "a", "id": [1]}, "a", "malformed", "row 1: column 'id' holds [1], no text"),
    "NUL in the id": ({"text": "a", "id": "\0"}, "a", "bad_encoding", "row 1: the id holds unreadable characters"),
    "no id and no text": ({"text": "", "id": ""}, "", "missing_id", "row 1: column 'id' is empty"),
}


@pytest.mark.parametrize("cause", ROWS)
def test_each_row_gets_its_status(cause: str) -> None:
    values, body, status, note = ROWS[cause]
    row = Row(1, {"id": "7", **values})
    ((text, _),) = read_texts(Table("t", ("id", "text"), iter([row])), WITH_IDS, max_chars=1000)
    assert (text.row, text.body, text.status, text.note) == (1, body, status, note)
    (text.key + text.id + text.body).encode()  # whatever came, it can be written


def test_a_repeated_id_names_the_row_that_had_it_first() -> None:
    found = texts_of([{"id": 7, "text": ""}, {"id": "8", "text": "b"}, {"id": "7", "text": "c"}, {"id": 7, "text": ""}])
    assert [(text.key, text.id, text.status, text.note) for text in found] == [
        ("7", "7", "empty", "row 1: the text is empty"),
        ("8", "8", "ok", ""),
        ("7#row3", "7", "repeated_id", "row 3: id '7' is that of row 1 too"),
        ("7#row4", "7", "repeated_id", "row 4: id '7' is that of row 1 too"),
    ]


def test_ids_are_kept_as_they_are_given() -> None:
    assert [(text.id, text.key) for text in texts_of([{"id": " a ", "text": "x"}, {"id": "a", "text": "y"}])] == [
        (" a ", " a "),
        ("a", "a"),
    ]


def test_several_columns_and_templates() -> None:
    rows = [{"title": "T", "body": "B", "n": 3}, {"title": None, "body": "B", "n": 3}, {"title": "", "body": " "}]
    two = task(text=["title", "body"])
    assert [(text.body, text.status) for text in texts_of(rows, two)] == [
        ("T\nB", "ok"), ("\nB", "ok"), ("\n ", "empty"),
    ]  # fmt: skip
    template = task(template="Title: {title} / {body}")
    assert [(text.body, text.status) for text in texts_of(rows, template)] == [
        ("Title: T / B", "ok"), ("Title:  / B", "ok"), ("Title:  /  ", "empty"),
    ]  # fmt: skip


def test_bad_rows_of_a_file_keep_what_could_be_read(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"id,text,gold\n1,caf\xe9,red\n2,a,b,c\n3,fine,blue\n")
    found = [text for text, _ in read_texts(open_table(tmp_path / "t.csv"), WITH_IDS)]
    assert found == [
        Text("1", "1", 1, "caf\ufffd", "bad_encoding", "line 2: bytes that are not UTF-8", "red"),
        Text(derived("2,a,b,c"), derived("2,a,b,c"), 2, "2,a,b,c", "malformed", "line 3: 4 fields; expected 3"),
        Text("3", "3", 3, "fine", gold="blue"),
    ]


@pytest.mark.parametrize(
    ("cell", "gold"),
    [("red", "red"), (" red\n", "red"), ("", None), (" ", None), (None, None), (1, "1"), ("\ud800", "\ufffd")],
)
def test_gold_is_stripped_text_or_none(cell: Any, gold: str | None) -> None:
    assert [text.gold for text in texts_of([{"id": 1, "text": "a", "gold": cell}])] == [gold]


def test_extra_cells_come_along_but_not_from_bad_rows(tmp_path: Path) -> None:
    lines = [{"text": "a", "x": ["red", "\ud800"], "y": 1}, {"text": "", "x": {"blue": 0.5}}, [1]]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found = list(read_texts(open_table(tmp_path / "t.jsonl"), task(), extra=["y", "x"]))
    assert [(text.status, cells) for text, cells in found] == [
        ("ok", (1, ["red", "\ufffd"])),
        ("empty", (None, {"blue": 0.5})),
        ("malformed", (None, None)),
    ]


def test_rows_stream() -> None:
    pulled = 0

    def rows() -> Iterator[Row]:
        nonlocal pulled
        while True:
            pulled += 1
            yield Row(pulled, {"text": "a"})

    found = read_texts(Table("t", ("text",), rows()), task())
    assert pulled == 0
    assert [next(found)[0].row for _ in range(3)] == [1, 2, 3]
    assert pulled == 3


# --- ids --------------------------------------------------------------------------------------------------------------


def test_derived_ids_depend_on_the_text_alone() -> None:
    found = texts_of(["a", "b", "a", "a"], task())
    assert [text.id for text in found] == [derived("a"), derived("b"), f"{derived('a')}-2", f"{derived('a')}-3"]
    assert [text.key for text in found] == [text.id for text in found]
    assert derived("a") == "tca978112ca1b"  # of all times and machines
    assert {text.status for text in found} == {"ok"}
    assert [text.id for text in texts_of(["b", "a"], task())] == [derived("b"), derived("a")]


def test_ids_that_look_like_keys() -> None:
    ids = ["a#row3", "a", "a", "a#row3", "b", "b", "b#row6"]
    found = texts_of([{"id": id, "text": str(n)} for n, id in enumerate(ids)])
    assert [(text.key, text.status) for text in found] == [
        ("a#row3", "ok"),
        ("a", "ok"),
        ("a#row3#row3", "repeated_id"),
        ("a#row3#row4", "repeated_id"),
        ("b", "ok"),
        ("b#row6", "repeated_id"),
        ("b#row6#row7", "ok"),
    ]


IDS = st.sampled_from(["a", "a#row2", "a#row3", "a#row2#row3", "", None, "\ud800", "\0", "\ufffd", derived("x")])


@given(st.lists(st.tuples(IDS, st.sampled_from(["x", "y", ""])), min_size=1, max_size=12))
def test_every_row_comes_out_once_with_a_key_of_its_own(rows: list[tuple[str | None, str]]) -> None:
    found = texts_of([{"id": id, "text": text} for id, text in rows])
    assert [text.row for text in found] == list(range(1, len(rows) + 1))
    assert [text.body for text in found] == [text for _, text in rows]
    assert len({text.key for text in found}) == len(rows)
    usable = [text.id for text in found if text.status == "ok"]
    assert len(set(usable)) == len(usable)
    assert all(text.note for text in found if text.status != "ok")


# --- checks of the whole ----------------------------------------------------------------------------------------------


def test_texts_that_cannot_be_used() -> None:
    for texts, message in {
        (): "no rows in t.csv; expected at least one text; check the file",
        ("", " ", "x" * 9): "no row of t.csv is usable (2 empty, 1 too_long); expected at least one text; "
        "first, row 1: the text is empty",
        ("red", "BLUE ", "red", " azure", "red"): "column 'text' of t.csv holds only class names; expected texts; "
        "set 'text:' in the task file to the column with the texts",
    }.items():
        found = texts_of(list(texts), task(), max_chars=8) if texts else []
        with pytest.raises(DataError) as caught:
            check_texts(found, task(), "t.csv")
        assert str(caught.value) == message


@pytest.mark.parametrize("texts", [["red"] * 4, ["red"] * 4 + [""], ["red"] * 9 + ["a red car"], ["a"]])
def test_texts_that_can_be_used(texts: list[str]) -> None:
    check_texts(texts_of(texts, task()), task(), "t.csv")
