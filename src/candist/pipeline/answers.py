"""Answers on hand: from columns of the input, from a JSONL file, or from Python, joined to texts by id."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from candist.candidates import union
from candist.data.readers import open_table
from candist.errors import AnswersError, did_you_mean, shorten
from candist.records import Candidates, Text
from candist.task import LabelSpace
from candist.teacher.parsing import parse_cell


def is_file(name: str) -> bool:
    """Whether a ``--candidates`` value names a file (``answers.jsonl`` or ``answers.jsonl:field``), not a column."""
    return split_file(name)[0].suffix in (".jsonl", ".ndjson")


def split_file(name: str) -> tuple[Path, str]:
    """``answers.jsonl:ca_all`` → its path and its field ("" where none is named)."""
    path, colon, field = name.rpartition(":")
    if colon and Path(path).suffix in (".jsonl", ".ndjson"):
        return Path(path), field
    return Path(name), ""


def read_answers(name: str, texts: Sequence[Text], space: LabelSpace) -> list[Candidates]:
    """Read a JSONL file of answers and join it to texts: by ``id``, else by ``row``.

    Rows may count from 0 or, as our own output does, from 1: row 0 or the last row tells which, and a file that has
    neither is refused. Texts that the file does not have count as abstained.

    Raises
    ------
    AnswersError
        When a line has neither id nor row, an id twice or unknown, or the field is missing.
    """
    path, field = split_file(name)
    table = open_table(path, "jsonl")
    columns = set(table.columns)
    join = next((column for column in ("id", "row") if column in columns), None)
    if join is None:
        raise AnswersError(f"{path} has no 'id' and no 'row'", "one of them on every line", "add the texts' ids")
    field = field or only_field(path, columns - {"id", "row"})
    if field not in columns:
        raise AnswersError(
            f"no field {field!r} in {path}", "a field of its lines", did_you_mean(field, sorted(columns))
        )
    said: dict[str, Any] = {}
    for row in table.rows:
        if row.status != "ok":
            raise AnswersError(f"{path}: {row.note}", "one JSON object a line", "mend the line")
        mark = str(row.values.get(join, ""))
        if mark in said:
            raise AnswersError(f"{path} answers {join} {mark!r} twice", "one answer a text", "remove one")
        said[mark] = row.values.get(field)
    base = first_row(path, said.keys(), len(texts)) if join == "row" else 0
    by_join = {text.id if join == "id" else str(text.row - 1 + base): text for text in reversed(texts)}
    for mark in said:
        if mark not in by_join:
            raise AnswersError(
                f"{path} answers {join} {mark!r}", f"{join}s that the texts have", "remove lines of other texts"
            )
    cells = {by_join[mark].key: cell for mark, cell in said.items()}
    answers = [parse_cell(text.key, cells.get(text.key), space, field) for text in texts if text.status == "ok"]
    return [a if a.key in cells else replace(a, note=f"not in {path.name}") for a in answers]


def first_row(path: Path, rows: Collection[str], texts: int) -> int:
    """Whether an answers file counts its rows from 0 or from 1 (AnswersError when that cannot be told)."""
    zero, last = "0" in rows, str(texts) in rows
    if zero == last and rows:
        what = f"both row '0' and row '{texts}'" if zero else f"neither row '0' nor row '{texts}'"
        raise AnswersError(
            f"{path} has {what} of {texts:,} texts", "rows that count from 0 or from 1", "join by 'id' instead"
        )
    return 0 if zero else 1


def only_field(path: Path, fields: Iterable[str]) -> str:
    """The one field that can hold the answers (AnswersError when there are several)."""
    names = sorted(fields)
    if len(names) != 1:
        raise AnswersError(
            f"{path} has fields {', '.join(map(repr, names)) or 'none'}", "one field named", f"write {path}:FIELD"
        )
    return names[0]


def check_answers(answers: Sequence[Candidates], space: LabelSpace) -> None:
    """Refuse answers that cannot teach anything (AnswersError)."""
    by_source: dict[str, Counter[str]] = {}
    for answer in answers:
        by_source.setdefault(answer.source, Counter())[answer.status] += 1
    for source, counts in by_source.items():
        if counts["ok"]:
            continue
        unread = next((a for a in answers if a.source == source and a.status == "unparsed"), None)
        if unread is None:
            raise AnswersError(f"{source!r} has no answer for any text", "candidate labels", "name another column")
        known = ", ".join(space.names[:5]) + (", …" if len(space) > 5 else "")
        raise AnswersError(
            f"{source!r} names no class in any row, for instance {unread.note}",
            f"classes of the task ({known})",
            "name another column, add aliases, or write a label, a JSON list or a|b",
        )
    if not any(label in space.index for answer in answers for label in answer.labels):
        raise AnswersError("no candidate set names a class", f"classes of the task ({space.names[0]!r}, …)", "")


def merge(answers: Iterable[Candidates]) -> dict[str, Candidates]:
    """Per text key, the union over sources, in the order of the sources."""
    groups: dict[str, list[Candidates]] = {}
    for answer in answers:
        groups.setdefault(answer.key, []).append(answer)
    return {key: union(group) for key, group in groups.items()}


def from_python(
    candidates: Mapping[str, Sequence[Any]] | Sequence[Any], texts: Sequence[Text], space: LabelSpace
) -> list[Candidates]:
    """Answers given in Python: one list as long as the texts, or several by source name.

    Raises
    ------
    AnswersError
        When a list is not as long as the texts.
    """
    named = candidates if isinstance(candidates, Mapping) else {"candidates": candidates}
    answers = []
    for source, cells in named.items():
        if isinstance(cells, str) or len(cells) != len(texts):
            got = shorten(cells) if isinstance(cells, str) else f"{len(cells):,} answers"
            raise AnswersError(f"{source!r} has {got}", f"one for each of the {len(texts):,} texts", "align them")
        pairs = zip(texts, cells, strict=True)
        answers += [parse_cell(text.key, cell, space, source) for text, cell in pairs if text.status == "ok"]
    return answers
