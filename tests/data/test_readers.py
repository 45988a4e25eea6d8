"""Files → rows: every cause of a refusal with its exact words, and no row lost, doubled or moved."""

from __future__ import annotations

import csv
import gc
import gzip
import io
import json
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from candist.data import bytestreams, parquet, readers
from candist.data import rows as rows_module
from candist.data.readers import open_table
from candist.data.rows import Row, Table
from candist.errors import DataError, MissingFileError

LOSSLESS = "\ufffd"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def written(name: str, content: bytes) -> str:
    Path(name).write_bytes(content)
    return name


def rows_of(content: bytes, name: str = "t.csv", format: str = "") -> list[Row]:
    return list(open_table(written(name, content), format).rows)


def cells_of(content: bytes, name: str = "t.csv", format: str = "") -> list[Any]:
    rows = rows_of(content, name, format)
    assert all(row.status == "ok" and row.note == "" for row in rows)
    return [dict(row.values) for row in rows]


def pipe(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def parquet_bytes(table: pyarrow.Table) -> bytes:
    sink = io.BytesIO()
    pyarrow.parquet.write_table(table, sink)
    return sink.getvalue()


# --- whole files that cannot be read ----------------------------------------------------------------------------------

SAVED = "expected at least one text; check that it was saved"
SUFFIXES = ".csv .tsv .tab .jsonl .ndjson .parquet .pq .txt"
NO_FORMAT = (
    f"expected a file name that ends in one of {SUFFIXES}; "
    "name its format with --format (csv, csv-semicolon, tsv, jsonl, parquet, lines)"
)
ONE_A_LINE = "expected JSONL: one object a line"
LONG_GZIP = gzip.compress(b"text\n" + os.urandom(200_000).hex().encode())

#: cause: file name, content, format, the exact message
REFUSED: dict[str, tuple[str, bytes, str, str]] = {
    "0 bytes": ("t.csv", b"", "", f"t.csv is empty; {SAVED}"),
    "0 bytes jsonl": ("t.jsonl", b"", "", f"t.jsonl is empty; {SAVED}"),
    "0 bytes lines": ("t.txt", b"", "", f"t.txt is empty; {SAVED}"),
    "0 bytes parquet": ("t.parquet", b"", "", f"t.parquet is empty; {SAVED}"),
    "0 bytes gz": ("t.csv.gz", gzip.compress(b""), "", f"t.csv.gz is empty; {SAVED}"),
    "byte-order mark only": ("t.csv", b"\xef\xbb\xbf", "", f"t.csv is empty; {SAVED}"),
    "blank lines only": ("t.csv", b"\n\r\n  \n\r", "", f"t.csv is empty; {SAVED}"),
    "blank lines only, jsonl": ("t.jsonl", b"\xef\xbb\xbf\n\n", "", f"t.jsonl is empty; {SAVED}"),
    "blank lines only, lines": ("t.txt", b" \n\n", "", f"t.txt is empty; {SAVED}"),
    "many blank lines": ("t.csv", b"\n" * 100_000, "", f"t.csv is empty; {SAVED}"),
    "many blank lines, lines": ("t.txt", b"\n" * 100_000, "", f"t.txt is empty; {SAVED}"),
    "many blank lines, jsonl": (
        "t.jsonl",
        b"\n" * 100_000,
        "",
        "t.jsonl is empty; expected at least one JSON object; check that it was saved",
    ),
    "header only": (
        "t.csv",
        b"text\n\n",
        "",
        "t.csv has a header and no rows; expected at least one row; check that it was saved",
    ),
    "unknown suffix": ("t.json", b"{}", "", f"the format of 't.json' is not known; {NO_FORMAT}"),
    "no suffix": ("texts", b"a", "", f"the format of 'texts' is not known; {NO_FORMAT}"),
    "unknown format": (
        "t.csv",
        b"text\na\n",
        "cvs",
        "unknown format 'cvs'; expected one of csv, csv-semicolon, tsv, jsonl, parquet, lines; did you mean 'csv'?",
    ),
    "xlsx": (
        "t.xlsx",
        b"PK\x03\x04rest",
        "",
        "t.xlsx is an Excel workbook or other zip archive; expected UTF-8 text; save it as CSV",
    ),
    "xls": (
        "t.csv",
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        "",
        "t.csv is an old Excel or Word file; expected UTF-8 text; save it as CSV",
    ),
    "pdf": ("t.csv", b"%PDF-1.7", "", "t.csv is a PDF file; expected UTF-8 text; save its texts as CSV"),
    "gzip without .gz": (
        "t.csv",
        gzip.compress(b"text\na\n"),
        "",
        "t.csv is gzip-compressed; expected UTF-8 text; add .gz to its name, or unpack it",
    ),
    "zstd": ("t.csv", b"\x28\xb5\x2f\xfdx", "", "t.csv is zstd-compressed; expected UTF-8 text; unpack it"),
    "xz": ("t.csv", b"\xfd7zXZ\x00x", "", "t.csv is xz-compressed; expected UTF-8 text; unpack it"),
    "sqlite": (
        "t.db",
        b"SQLite format 3\x00",
        "csv",
        "t.db is an SQLite database; expected UTF-8 text; export its table as CSV",
    ),
    "parquet given as csv": (
        "t.csv",
        parquet_bytes(pyarrow.table({"text": ["a"]})),
        "",
        "t.csv is a Parquet file; expected UTF-8 text; name its format: --format parquet",
    ),
    "feather": (
        "t.csv",
        b"ARROW1\0\0",
        "",
        "t.csv is an Arrow (Feather) file; expected UTF-8 text; save it as Parquet",
    ),
    "UTF-16": (
        "t.csv",
        "text\na\n".encode("utf-16"),
        "",
        "t.csv is UTF-16 text; expected UTF-8 text; save it as UTF-8",
    ),
    "UTF-16 big-endian": (
        "t.csv",
        b"\xfe\xff" + "text\na\n".encode("utf-16-be"),
        "",
        "t.csv is UTF-16 text; expected UTF-8 text; save it as UTF-8",
    ),
    "NUL in the first line": (
        "t.csv",
        b"te\0xt\na\n",
        "",
        "t.csv is a binary file; expected UTF-8 text; save it as CSV, JSONL or Parquet",
    ),
    "many NULs": (
        "t.csv",
        b"text\n" + b"a\0\0\0\n" * 20,
        "",
        "t.csv is a binary file; expected UTF-8 text; save it as CSV, JSONL or Parquet",
    ),
    "a .parquet that is none": (
        "t.parquet",
        b"text\nsome words\n",
        "",
        "t.parquet: Parquet magic bytes not found in footer; expected a Parquet file; "
        "check it, or name its format with --format",
    ),
    "parquet without rows": (
        "t.parquet",
        parquet_bytes(pyarrow.table({"text": pyarrow.array([], "string")})),
        "",
        "t.parquet has no rows; expected at least one row; check that it was saved",
    ),
    "repeated column": (
        "t.csv",
        b"text, text\na,b\n",
        "",
        "t.csv: two columns are named 'text'; expected each name once; rename or remove one",
    ),
    "column without a name": (
        "t.csv",
        b"text,\na,b\n",
        "",
        "t.csv: column 2 has no name; expected a name for every column; name it or remove it",
    ),
    "pandas index": (
        "t.csv",
        b",text\n0,b\n",
        "",
        "t.csv: column 1 has no name; expected a name for every column; name it or remove it (pandas: index=False)",
    ),
    "header with broken quotes": (
        "t.csv",
        b'\n"te"xt,b\na,b\n',
        "",
        "t.csv, line 2: ',' expected after '\"'; expected a row of column names; mend the header",
    ),
    "header that is no UTF-8": (
        "t.csv",
        "größe\n1\n".encode("latin-1"),
        "",
        "t.csv, line 1: bytes that are not UTF-8; expected UTF-8 text; save it as UTF-8",
    ),
    "quote never closed in the header": (
        "t.csv",
        b'"text,b\na,b\n',
        "",
        "t.csv, line 1: a quote is opened and not closed; expected a closing quote; close it or remove it",
    ),
    "quote never closed": (
        "t.csv",
        b'id,text\n1,a\n\n2,"b\nc\nd\n',
        "",
        "t.csv, line 4: a quote is opened and not closed; expected a closing quote; close it or remove it",
    ),
    "quote never closed after a cell of several lines": (
        "t.csv",
        b'id,text\n1,a\n"2\r\n""x""\r3","b\nc\nd\n',
        "",
        "t.csv, line 5: a quote is opened and not closed; expected a closing quote; close it or remove it",
    ),
    "semicolons": (
        "t.csv",
        b"id;text\n1;a\n",
        "",
        "t.csv has semicolons between its columns; expected commas; did you mean --format csv-semicolon?",
    ),
    "tabs": (
        "t.csv",
        b"id\ttext\n1\ta\n",
        "",
        "t.csv has tabs between its columns; expected commas; did you mean --format tsv?",
    ),
    "commas in a TSV": (
        "t.tsv",
        b"id,text\n1,a\n",
        "",
        "t.tsv has commas between its columns; expected tabs; did you mean --format csv?",
    ),
    "JSON array over several lines": (
        "t.jsonl",
        b'[\n{"text": "a"},\n{"text": "b"}\n]\n',
        "",
        f"t.jsonl holds a JSON array; {ONE_A_LINE}; write each object on its own line",
    ),
    "JSON array on one line": (
        "t.jsonl",
        b'[{"text": "a"}]',
        "",
        f"t.jsonl holds a JSON array; {ONE_A_LINE}; write each object on its own line",
    ),
    "no JSON object": (
        "t.jsonl",
        b'"a"\n"b"\n',
        "",
        f"t.jsonl: none of its lines is a JSON object; {ONE_A_LINE}; first, line 1: JSON that is no object",
    ),
    "CSV given as JSONL": (
        "t.csv",
        b"text\n" + b"a\n" * 200,
        "jsonl",
        f"t.csv: none of the first 100 lines is a JSON object; {ONE_A_LINE}; "
        "first, line 1: broken JSON (Expecting value, character 1)",
    ),
    "gzip cut short": (
        "t.csv.gz",
        LONG_GZIP[:-100],
        "",
        "t.csv.gz is cut short; expected a complete gzip file; copy or download it again",
    ),
    "gzip damaged": (
        "t.csv.gz",
        LONG_GZIP[:-8] + b"\0" * 8,
        "",
        "t.csv.gz is damaged or no gzip file; expected gzip-compressed text; pack it again, or drop .gz",
    ),
    "no gzip": (
        "t.csv.gz",
        b"text\na\n",
        "",
        "t.csv.gz is damaged or no gzip file; expected gzip-compressed text; pack it again, or drop .gz",
    ),
}


@pytest.mark.parametrize("cause", REFUSED)
def test_a_file_that_cannot_be_read_is_refused_in_one_line(cause: str) -> None:
    name, content, format, message = REFUSED[cause]
    with pytest.raises(DataError) as caught:
        rows_of(content, name, format)
    assert str(caught.value) == message


def test_files_that_are_not_there_or_not_open_to_us(monkeypatch: pytest.MonkeyPatch) -> None:
    written("texts.csv", b"text\na\n")
    for name, hint in {
        "text.csv": "did you mean 'texts.csv'?",
        "far/away.csv": "check the path",
        "texts.csv/x.csv": "check the path",
        "\0": "check the path",
    }.items():
        with pytest.raises(MissingFileError) as missing:
            open_table(name)
        assert str(missing.value) == f"no file {name!r}; expected a file of texts; {hint}"
    Path("folder.csv").mkdir()
    with pytest.raises(DataError, match=r"^'folder.csv' is a folder; expected a file of texts; name a file in it$"):
        open_table("folder.csv")

    def forbidden(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", forbidden)
        with pytest.raises(DataError, match=r"^texts.csv: Permission denied; expected a readable file; check its perm"):
            open_table("texts.csv")


def test_a_disk_that_fails_midway(monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(io.BytesIO):
        def read1(self, size: int | None = -1, /) -> bytes:
            if self.tell() > bytestreams.HEAD:
                raise OSError(5, "Input/output error")
            return super().read1(size)

    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=Failing(b"a\n" * 60_000)))
    table = open_table("-")
    with pytest.raises(DataError, match=r"^standard input: Input/output error; expected a readable file; check the"):
        list(table.rows)


def test_parquet_that_is_damaged_inside() -> None:
    table = pyarrow.table({"text": [f"text number {i}" for i in range(5000)]})
    content = bytearray(parquet_bytes(table))
    content[4:60] = b"\xff" * 56
    with pytest.raises(DataError, match=r"^t.parquet: .*; expected a complete Parquet file; copy or write it again$"):
        rows_of(bytes(content), "t.parquet")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_pipes_are_read_once_and_parquet_is_not_read_from_them() -> None:
    for name, content in {"p.csv": b"text\na\n", "p.parquet": b"PAR1"}.items():
        os.mkfifo(name)
        writer = threading.Thread(target=Path(name).write_bytes, args=(content,))
        writer.start()
        if name == "p.csv":
            assert [row.values for row in open_table(name).rows] == [{"text": "a"}]
        else:
            with pytest.raises(DataError, match=r"^p.parquet is no regular file; expected a Parquet file; save it fir"):
                open_table(name)
        writer.join()


# --- single rows that are bad -----------------------------------------------------------------------------------------

#: cause: file name, content before and after, the bad row's raw line, its status, its note
BAD_ROWS: dict[str, tuple[str, bytes, str, str, str]] = {
    "too many fields": ("t.csv", b"3,a,b", "3,a,b", "malformed", "line 3: 3 fields; expected 2"),
    "too few fields": ("t.csv", b"3", "3", "malformed", "line 3: 1 field; expected 2"),
    "ragged over two lines": (
        "t.csv",
        b'3,"a\r\nb",c',
        '3,"a\r\nb",c',
        "malformed",
        "lines 3 to 4: 3 fields; expected 2",
    ),
    "broken quotes": (
        "t.csv",
        b'3,"a "word" b"',
        '3,"a "word" b"',
        "malformed",
        "line 3: broken quotes (',' expected after '\"')",
    ),
    "broken quotes, tabs": (
        "t.tsv",
        b'3\t"a "word" b"',
        '3\t"a "word" b"',
        "malformed",
        "line 3: broken quotes ('\t' expected after '\"')",
    ),
    "NUL": ("t.csv", b"3,a\0b", f"3,a{LOSSLESS}b", "malformed", "line 3: a NUL character"),
    "no UTF-8": ("t.csv", b"3,caf\xe9", f"3,caf{LOSSLESS}", "bad_encoding", "line 3: bytes that are not UTF-8"),
    "broken JSON": (
        "t.jsonl",
        b'{"id": "3", "text"',
        '{"id": "3", "text"',
        "malformed",
        "line 2: broken JSON (Expecting ':' delimiter, character 19)",
    ),
    "no JSON object": ("t.jsonl", b"[1, 2]", "[1, 2]", "malformed", "line 2: JSON that is no object"),
    "NUL in JSON": (
        "t.jsonl",
        b'{"text": "a\0"}',
        f'{{"text": "a{LOSSLESS}"}}',
        "malformed",
        "line 2: broken JSON (Invalid control character at, character 12)",
    ),
    "names that differ in blanks": (
        "t.jsonl",
        b'{"text": 1, "text ": 2}',
        '{"text": 1, "text ": 2}',
        "malformed",
        "line 2: names that differ in blanks only",
    ),
    "no UTF-8 in JSON": (
        "t.jsonl",
        b'{"id": "3", "text": "caf\xe9"}',
        f'{{"id": "3", "text": "caf{LOSSLESS}"}}',
        "bad_encoding",
        "line 2: bytes that are not UTF-8",
    ),
    "NUL in a line": ("t.txt", b"a\0b", f"a{LOSSLESS}b", "malformed", "line 2: a NUL character"),
    "no UTF-8 in a line": (
        "t.txt",
        b"\xff3\xed\xa0\x80",
        f"{LOSSLESS}3{LOSSLESS * 3}",
        "bad_encoding",
        "line 2: bytes that are not UTF-8",
    ),
}
#: What stands before and after the bad row.
AROUND = {
    "t.csv": (b"id,text\n2,first row\n", b"\n4,last row\n"),
    "t.tsv": (b"id\ttext\n2\tfirst row\n", b"\n4\tlast row\n"),
    "t.jsonl": (b'{"id": "2", "text": "first row"}\n', b'\n{"id": "4", "text": "last row"}\n'),
    "t.txt": (b"first row\n", b"\nlast row\n"),
}


@pytest.mark.parametrize("cause", BAD_ROWS)
def test_a_bad_row_comes_out_with_a_status_and_its_raw_line(cause: str) -> None:
    name, line, raw, status, note = BAD_ROWS[cause]
    before, after = AROUND[name]
    first, bad, last = rows_of(before + line + after, name)
    assert (first.number, first.values["text"], first.status) == (1, "first row", "ok")
    assert (last.number, last.values["text"], last.status) == (3, "last row", "ok")
    assert (bad.number, bad.values[""], bad.status, bad.note) == (2, raw, status, note)
    assert set(bad.values) == ({""} if status == "malformed" else {"", *first.values})


def test_json_that_python_will_not_read_is_a_bad_row() -> None:
    deep, long = b"[" * 200_000, b'{"n": ' + b"9" * 5000 + b"}"
    _, one, two = rows_of(b'{"text": "a"}\n' + deep + b"\n" + long, "t.jsonl")
    assert one.status == two.status == "malformed"
    assert one.note.startswith("line 2: JSON that cannot be read (maximum recursion depth exceeded")
    assert two.note.startswith("line 3: JSON that cannot be read (Exceeds the limit")


def test_cells_of_a_row_with_bad_bytes_are_kept() -> None:
    (row,) = rows_of(b"id,text\n7,caf\xe9\n")
    assert row.values == {"id": "7", "text": "caf\ufffd", "": "7,caf\ufffd"}


def test_a_stray_quote_costs_its_own_row_only() -> None:
    content = b'id,text\n1,"stray\n2,b\n3,c\n4,"fine, here"\n5,e\n'
    assert [(row.status, row.values.get("id")) for row in rows_of(content)] == [
        ("malformed", None), ("ok", "2"), ("ok", "3"), ("ok", "4"), ("ok", "5"),
    ]  # fmt: skip
    assert rows_of(content)[0].values == {"": '1,"stray'}


def test_quotes_that_are_not_doubled_in_a_cell_of_two_lines_cost_one_row() -> None:
    bad, good = rows_of(b'id,text,n\n1,"two\nlines "here" now",x\n2,b,y\n')
    assert (bad.status, bad.values[""]) == ("malformed", '1,"two\nlines "here" now",x')
    assert good.values == {"id": "2", "text": "b", "n": "y"}


def test_a_stray_quote_does_not_take_for_ever() -> None:
    """Each of these lines closes the quote that is open and opens the next."""
    with pytest.raises(DataError, match=r"^t.csv, line 5003: a quote is opened and not closed"):
        rows_of(b"a,b\n1,2\n" + b'x","y\n' * 5000 + b'x","y\n"z"z\n')


def test_a_row_without_end_is_refused_before_it_fills_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "MAX_RECORD", 10_000)
    with pytest.raises(DataError) as caught:
        rows_of(b'text\na\n"b\n' + b"more\n" * 10_000)
    assert str(caught.value) == (
        "t.csv: the row that starts on line 3 is longer than 10,000 characters; expected every quote to be closed; "
        "close the quote, or shorten the row"
    )


# --- what is read -----------------------------------------------------------------------------------------------------


def test_csv_quotes_line_ends_blank_lines_and_blanks_in_names() -> None:
    content = '\ufeff id ,"text"\r\n1,"a, ""b""\r\nc"\r\n\r\n2, d \r3,\n4,é\u2028f'.encode()
    assert cells_of(content) == [
        {"id": "1", "text": 'a, "b"\r\nc'},
        {"id": "2", "text": " d "},
        {"id": "3", "text": ""},
        {"id": "4", "text": "é\u2028f"},
    ]


def test_quotes_inside_a_cell_and_an_empty_quoted_cell_are_fine() -> None:
    assert cells_of(b'text\n5" disk\n""\n" "\n') == [{"text": '5" disk'}, {"text": ""}, {"text": " "}]


def test_tsv_keeps_rows_of_empty_cells() -> None:
    assert cells_of(b"a\tb\n\t\n1\tx, y\n", "t.tab") == [{"a": "", "b": ""}, {"a": "1", "b": "x, y"}]


def test_jsonl_of_any_value_with_columns_of_the_first_rows() -> None:
    content = b'\xef\xbb\xbf{" text": "a", "n": 1}\r\n\r\n{"text": ["b"], "more": {"x": null}, "v": NaN}\r{"": 2}'
    table = open_table(written("t.ndjson", content))
    assert table.columns == ("text", "n", "more", "v")
    assert [dict(row.values) for row in table.rows] == [
        {"text": "a", "n": 1},
        {"text": ["b"], "more": {"x": None}, "v": None},
        {"": 2},
    ]


def test_columns_are_known_although_every_row_has_bad_bytes() -> None:
    assert open_table(written("t.jsonl", b'{"text": "caf\xe9"}\n' * 3)).columns == ("text",)


def test_in_lines_a_blank_line_is_a_row_and_the_last_line_end_is_none() -> None:
    content = b"\xef\xbb\xbfone\n\n two \r\nthree\rfour\n"
    assert [(row.number, row.values["text"]) for row in rows_of(content, "t.txt")] == [
        (1, "one"), (2, ""), (3, " two "), (4, "three"), (5, "four"),
    ]  # fmt: skip


def test_parquet_nested_and_missing_cells() -> None:
    values = {"text": ["a", None], " labels": [["x", "y"], []], "n": [1.5, None]}
    table = open_table(written("t.pq", parquet_bytes(pyarrow.table(values))))
    assert table.columns == ("text", "labels", "n")
    assert [dict(row.values) for row in table.rows] == [
        {"text": "a", "labels": ["x", "y"], "n": 1.5},
        {"text": None, "labels": [], "n": None},
    ]


def test_parquet_with_text_that_is_no_utf8() -> None:
    cells = [b"a", b"caf\xe9", b"c"] * parquet.BATCH
    binary = pyarrow.array(cells, "binary")
    broken = pyarrow.Array.from_buffers(pyarrow.string(), len(cells), binary.buffers())
    table = pyarrow.table({"id": range(len(cells)), "text": broken})
    rows = rows_of(parquet_bytes(table), "t.parquet")
    assert [row.number for row in rows] == list(range(1, len(cells) + 1))
    assert [row.status for row in rows] == ["ok", "bad_encoding", "ok"] * parquet.BATCH
    assert (rows[1].values, rows[1].note) == (
        {"id": 1, "text": "caf\ufffd", "": "caf\ufffd"},
        "row 2: bytes that are not UTF-8",
    )


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".txt"])
def test_gzip_on_top_of_every_text_format(suffix: str) -> None:
    content = b'{"text": "a"}\n' if suffix == ".jsonl" else b"text\na\n"
    assert rows_of(gzip.compress(content), f"t{suffix}.GZ")[-1].values == {"text": "a"}


def test_the_format_outranks_the_name() -> None:
    assert cells_of(b"a,b\tc\n", "t.csv", "lines") == [{"text": "a,b\tc"}]
    assert cells_of(b"a\tb\n1\t2\n", "t.dat", "TSV") == [{"a": "1", "b": "2"}]


@pytest.mark.parametrize(
    ("content", "format", "first"),
    [
        (b'\n {"text": "a"}', "", {"text": "a"}),
        (b'\xef\xbb\xbf{"text": "a"}', "", {"text": "a"}),
        (b"a, b\n", "", {"text": "a, b"}),
        (b"text\na\n", "csv", {"text": "a"}),
        (b'{"text": "a"}', "lines", {"text": '{"text": "a"}'}),
    ],
)
def test_standard_input(monkeypatch: pytest.MonkeyPatch, content: bytes, format: str, first: dict[str, str]) -> None:
    pipe(monkeypatch, content)
    table = open_table("-", format)
    assert (table.name, next(table.rows).values) == ("standard input", first)
    del table
    assert not sys.stdin.buffer.closed


def test_standard_input_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"^Parquet cannot come from standard input; expected a file; name the file in"):
        open_table("-", "parquet")
    pipe(monkeypatch, b"\n")
    with pytest.raises(DataError, match=r"^standard input is empty; expected at least one text; check that it was sav"):
        open_table("-")
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(DataError, match=r"^there is no standard input; expected a pipe or a file; name the file inste"):
        open_table("-")


# --- large cells, streaming, what is left behind ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl", "t.txt", "t.parquet"])
def test_a_cell_of_a_million_characters_comes_through(name: str) -> None:
    cell = "é" * 1_000_000
    content = {
        "t.csv": f'text\n"{cell}"\n'.encode(),
        "t.tsv": f"text\n{cell}\n".encode(),
        "t.jsonl": json.dumps({"text": cell}).encode(),
        "t.txt": cell.encode(),
        "t.parquet": parquet_bytes(pyarrow.table({"text": [cell]})),
    }[name]
    assert cells_of(content, name) == [{"text": cell}]


def test_the_csv_modules_global_limit_is_left_as_it_was() -> None:
    before = csv.field_size_limit()
    cell = "x" * 200_000
    rows = open_table(written("t.csv", f'text\n{cell}\n"{cell}"x\nb\n'.encode())).rows
    assert next(rows).values == {"text": cell}
    assert csv.field_size_limit() == before
    assert [row.status for row in rows] == ["malformed", "ok"]
    assert csv.field_size_limit() == before


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".txt"])
def test_rows_come_before_the_input_ends(monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    """A long input is not read beyond what is looked at ahead."""

    class Counting(io.BytesIO):
        taken = 0

        def read1(self, size: int | None = -1, /) -> bytes:
            chunk = super().read1(size)
            self.taken += len(chunk)
            return chunk

    line = b'{"text": "some text of no great length"}\n' if suffix == ".jsonl" else b"some text of no great length\n"
    source = Counting(line * 50_000)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=source))
    rows = open_table("-", readers.SUFFIXES[suffix]).rows
    for _ in range(10):
        next(rows)
    assert source.taken <= 2 * bytestreams.HEAD
    assert sum(1 for _ in rows) >= 49_000


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.jsonl", "t.txt", "t.parquet"])
def test_a_table_that_is_dropped_half_read_closes_its_file_without_a_warning(name: str) -> None:
    lines = b'{"text": "a"}\n' * 500
    content = parquet_bytes(pyarrow.table({"text": ["a"] * 500})) if name == "t.parquet" else lines
    written(name, gzip.compress(content) if name.endswith(".gz") else content)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for reads in range(3):
            table = open_table(name)
            for _ in range(reads):
                next(table.rows)
            del table
            gc.collect()
    assert not caught


def test_heavy_packages_are_not_imported() -> None:
    code = (
        "import sys, candist.data.readers, candist.data.frames, candist.data.texts; "
        "print(sorted({'pyarrow', 'pandas', 'polars', 'datasets'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- no row is lost, doubled or moved ---------------------------------------------------------------------------------

CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
FAST = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FAST
@given(st.lists(st.tuples(CELL, CELL), min_size=1, max_size=8), st.sampled_from(["t.csv", "t.tsv"]))
def test_what_the_csv_module_writes_is_read_back(cells: list[tuple[str, str]], name: str) -> None:
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=readers.DELIMITERS[name[2:]]).writerows([("a", "b"), *cells])
    assert [tuple(values.values()) for values in cells_of(out.getvalue().encode(), name)] == cells


@FAST
@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.none() | st.floats(allow_nan=False) | CELL), min_size=1))
def test_what_the_json_module_writes_is_read_back(values: list[dict[str, Any]]) -> None:
    assert cells_of("\n".join(json.dumps(value) for value in values).encode(), "t.jsonl") == values


@FAST
@given(st.lists(CELL, min_size=1, max_size=20))
def test_lines_are_read_back(lines: list[str]) -> None:
    lines = [line.replace("\r", "").replace("\n", "") for line in lines]
    lines[0] = f"x{lines[0]}"
    assert [values["text"] for values in cells_of("\n".join([*lines, ""]).encode(), "t.txt")] == lines


PLAIN_ROWS = 12
#: Bytes that can neither end a row nor join two.
HARMLESS = st.integers(1, 255).filter(lambda byte: byte not in b'\r\n"')


def damaged(content: bytes, changes: list[tuple[int, int]], start: int) -> bytes:
    found = bytearray(content)
    for position, byte in changes:
        found[start + position % (len(found) - start)] = byte
    return bytes(found)


@FAST
@given(st.lists(st.tuples(st.integers(0, 10_000), HARMLESS), max_size=30), st.booleans())
def test_rows_in_are_rows_out_whatever_bytes_are_in_them(changes: list[tuple[int, int]], quoted: bool) -> None:
    row = '{i},"the text, number {i}"' if quoted else "{i},the text number {i}"
    header, ends = b"id,text\n", b"\n"
    lines = [row.format(i=i).encode() for i in range(PLAIN_ROWS)]
    for position, byte in changes:
        which, spot = position % PLAIN_ROWS, position // PLAIN_ROWS % len(row)
        # What holds a row together stays: its comma and its quotes.
        if spot < len(lines[which]) and lines[which][spot] not in b'",':
            lines[which] = damaged(lines[which], [(spot, byte)], 0)
    rows = rows_of(header + ends.join(lines) + ends)
    assert [found.number for found in rows] == list(range(1, PLAIN_ROWS + 1))
    for line, found in zip(lines, rows, strict=True):
        shown = line.decode("utf-8", "surrogateescape")
        if found.status == "ok":
            assert found.values["id"] == shown.split(",")[0]
        else:
            assert found.values[""] == rows_module.readable(shown)


@FAST
@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=30))
@example([(3, 34)])
def test_any_damage_is_a_refusal_or_leaves_every_line_in_one_row(changes: list[tuple[int, int]]) -> None:
    content = b"id,text\n" + b"".join(b'%d,"the text\nnumber %d"\n' % (i, i) for i in range(PLAIN_ROWS))
    content = damaged(content, changes, len(b"id,text\n"))
    try:
        rows = rows_of(content)
    except DataError:
        return
    assert [row.number for row in rows] == list(range(1, len(rows) + 1))
    # What the rows hold, put together, is what the file holds: nothing lost, nothing twice.
    kept = "".join("".join(row.values[""] if row.status != "ok" else row.values.values()) for row in rows)
    shown = rows_module.readable(content[len(b"id,text\n") :].decode("utf-8", "surrogateescape"))
    assert letters(kept) == letters(shown)


def letters(text: str) -> list[str]:
    """A text's characters but those that belong to the form of CSV."""
    return [character for character in text if character not in '", \r\n']


@FAST
@given(st.binary(max_size=200), st.sampled_from(["csv", "tsv", "jsonl", "lines", "parquet", ""]))
def test_any_bytes_are_a_table_or_one_line_of_refusal(content: bytes, format: str) -> None:
    try:
        rows = rows_of(content, "t.bin", format)
    except DataError:
        return
    assert rows
    assert all(row.status == "ok" or (row.note and "\n" not in row.note) for row in rows)


def test_a_table_is_a_plain_value() -> None:
    def none() -> Iterator[Row]:
        yield from ()

    table = Table("name", ("text",), none())
    assert (table.name, table.columns, list(table.rows)) == ("name", ("text",), [])


def test_semicolons_are_read_when_they_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "texts.csv"
    path.write_text('id;text\n1;"a; b"\n2;c, d\n')
    table = open_table(path, "csv-semicolon")
    assert [dict(row.values) for row in table.rows] == [{"id": "1", "text": "a; b"}, {"id": "2", "text": "c, d"}]
