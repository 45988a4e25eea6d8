"""Cells of answers on hand: what names classes becomes a set in its order, what does not never becomes a label."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from candist.task import OTHER, Label, LabelSpace
from candist.teacher.parsing import parse_cell

NAMES = ("card payment", "card payment fee", "no", "a|b")
SPACE = LabelSpace([*(Label(name=name) for name in NAMES), Label(name="7", aliases=("seven",))], other=True)


@pytest.mark.parametrize(
    ("cell", "labels"),
    [
        ("no", ("no",)),
        ("  NO ", ("no",)),
        ("card payment fee", ("card payment fee",)),
        ("card payment|no", ("card payment", "no")),
        ("no|card payment", ("no", "card payment")),
        ("no||no|", ("no",)),
        ("a|b", ("a|b",)),
        ('["a|b", "no"]', ("a|b", "no")),
        (["no", "Seven", None, " "], ("no", "7")),
        (("no",), ("no",)),
        (7, ("7",)),
        ("[7]", ("7",)),
        ("other", (OTHER,)),
        ("no|none of these", ("no", OTHER)),
    ],
)
def test_answers_that_name_classes(cell: Any, labels: tuple[str, ...]) -> None:
    found = parse_cell("k", cell, SPACE, "source")
    assert (found.status, found.labels, found.note) == ("ok", labels, "")


@pytest.mark.parametrize("cell", [None, "", "   ", [], [None], "[]", "|"])
def test_blank_answers_abstain(cell: Any) -> None:
    assert parse_cell("k", cell, SPACE, "source").status == "abstained"


@pytest.mark.parametrize(
    ("cell", "note"),
    [
        ("card", "no class: 'card'"),
        ("card payment fees", "no class: 'card payment fees'"),
        ("I think: no", "no class: 'I think: no'"),
        ('["no"', """no class: '["no"'"""),
        ({"label": "no"}, "{'label': 'no'} is no label or list of labels"),
        ([["no"]], "[['no']] is no label or list of labels"),
        (3.5, "no class: '3.5'"),
        (True, "no class: 'True'"),
    ],
)
def test_other_answers_are_unparsed(cell: Any, note: str) -> None:
    found = parse_cell("k", cell, SPACE, "source")
    assert (found.status, found.labels, found.note) == ("unparsed", (), note)


def test_a_strange_name_beside_a_class_is_told_and_left_out() -> None:
    found = parse_cell("k", "no|maybe", SPACE, "source")
    assert (found.status, found.labels, found.note) == ("ok", ("no",), "no class: 'maybe'")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(json_values)
def test_no_cell_crashes_and_none_makes_a_label_up(cell: Any) -> None:
    found = parse_cell("k", cell, SPACE, "source")
    assert (found.status == "ok") == bool(found.labels)
    assert set(found.labels) <= {*SPACE.names, OTHER}


@given(
    st.lists(st.sampled_from([*NAMES, "7", OTHER]), min_size=1, unique=True), st.sampled_from(["list", "json", "bar"])
)
def test_what_was_written_comes_back_in_order(names: list[str], form: str) -> None:
    import json

    cell: Any = {"list": names, "json": json.dumps(names), "bar": "|".join(names)}[form]
    if form == "bar" and "a|b" in names:
        return  # a name with a bar needs a list
    assert parse_cell("k", cell, SPACE, "source").labels == tuple(names)
