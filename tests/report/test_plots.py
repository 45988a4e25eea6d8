from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from markupsafe import Markup

from candist.report import plots

HOSTILE = "<script>\"'&</script>\u202e"
FIGURES = {
    "bars": plots.bars("Sources", [("both", 3), ("none", 0)]),
    "no bars": plots.bars("Sources", []),
    "zero bars": plots.bars("Sources", [("both", 0)]),
    "hostile bars": plots.bars(HOSTILE, [(HOSTILE, 3), ("x" * 500, 1)]),
    "histogram": plots.histogram("Sizes", [("1", 10), ("2", 1_000_000)], "size"),
    "no histogram": plots.histogram("Sizes", [], "size"),
    "hostile histogram": plots.histogram(HOSTILE, [(HOSTILE, 1)], HOSTILE, HOSTILE),
    "many bins": plots.histogram("Sizes", [(str(k), k) for k in range(1000)], "size"),
    "reliability": plots.reliability("Reliability", [(0.4, 0.5, 10), (0.9, 0.8, 11)]),
    "no reliability": plots.reliability("Reliability", []),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_well_formed_and_titled(name: str) -> None:
    figure = FIGURES[name]
    assert isinstance(figure, Markup)
    root = ET.fromstring(figure)
    assert (root.tag, root.get("role"), root[0].tag) == ("svg", "img", "title")
    assert "<script" not in figure
    assert "\u202e" not in figure
    assert "nan" not in figure


@pytest.mark.parametrize("name", FIGURES)
def test_shapes_stay_inside_the_box(name: str) -> None:
    root = ET.fromstring(FIGURES[name])
    width, height = (float(side) for side in root.attrib["viewBox"].split()[2:])
    for shape in root.iter("rect"):
        x, y, w, h = (float(shape.attrib[key]) for key in ("x", "y", "width", "height"))
        assert x >= 0
        assert y >= 0
        assert w >= 0
        assert h >= 0
        assert x + w <= width
        assert y + h <= height


@pytest.mark.parametrize(
    ("most", "ticks"),
    [(0, [0, 1]), (1, [0, 1]), (3, [0, 1, 2, 3]), (7, [0, 2, 4, 6, 8]), (41, [0, 20, 40, 60]), (100, [0, 50, 100])],
)
def test_ticks_are_round_and_reach_the_top(most: int, ticks: list[int]) -> None:
    assert plots.count_ticks(most) == ticks


@pytest.mark.parametrize("most", [*range(1, 300), 12_345, 999_999, 10**9])
def test_ticks_are_few(most: int) -> None:
    ticks = plots.count_ticks(most)
    assert ticks[-1] >= most
    assert 2 <= len(ticks) <= 6


def test_points_and_labels() -> None:
    root = ET.fromstring(plots.reliability("R", [(0.0, 0.0, 1), (1.0, 1.0, 4)]))
    low, high = root.iter("circle")
    assert float(low.attrib["r"]) < float(high.attrib["r"])
    assert float(low.attrib["cy"]) > float(high.attrib["cy"])
    words = [shape.text for shape in root.iter("text")]
    assert "probability (mean of the bin)" in words
    assert words.count("100 %") == 2


def test_crowded_labels_are_thinned() -> None:
    labels = [(k + 0.5, f"{k}") for k in range(100)]
    assert len(plots.thinned(labels, 4.0)) == 17
    assert plots.thinned(labels[:5], 80.0) == labels[:5]
