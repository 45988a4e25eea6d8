"""Answers on hand → `Candidates`: a label, a JSON list, or ``a|b``. Pure; what is unreadable never becomes a label."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from candist.errors import shorten
from candist.records import Candidates
from candist.task import LabelSpace


def parse_cell(key: str, cell: Any, space: LabelSpace, source: str) -> Candidates:
    """Read one answer.

    Parameters
    ----------
    key
        The text's key.
    cell
        None or blank: the source abstained. Text: one class name, else a JSON list, else names between bars.
        A list: class names, preferred first.
    space
        The classes.
    source
        Who said it.

    Returns
    -------
    Candidates
        ``ok`` when at least one class is named, else ``unparsed``; ``note`` tells names that are no class.
    """
    names = written_names(cell, space)
    if names is None:
        return Candidates(key, status="unparsed", source=source, note=f"{shorten(cell)} is no label or list of labels")
    if not names:
        return Candidates(key, status="abstained", source=source)
    found = dict.fromkeys(name for written in names if (name := space.resolve(written)) is not None)
    strange = [written for written in names if space.resolve(written) is None]
    note = f"no class: {', '.join(shorten(name) for name in strange[:3])}" if strange else ""
    if not found:
        return Candidates(key, status="unparsed", source=source, note=note)
    return Candidates(key, tuple(found), "ok", source, note=note)


def written_names(cell: Any, space: LabelSpace) -> Sequence[str] | None:
    """The names that a cell writes, empty ones left out; None when it is nothing that could name classes."""
    match cell:
        case None:
            return []
        case str():
            written = cell.strip()
            if not written or space.resolve(written) is not None:
                return [written] if written else []
            if written.startswith("["):
                try:
                    return written_names(json.loads(written), space)
                except ValueError:
                    return [written]
            return [name.strip() for name in written.split("|") if name.strip()]
        case float() if cell.is_integer():
            return [str(int(cell))]
        case bool() | int() | float():
            return [str(cell)]
        case list() | tuple() if all(isinstance(item, str | int | float | None) for item in cell):
            return [str(item).strip() for item in cell if item is not None and str(item).strip()]
        case _:
            return None
