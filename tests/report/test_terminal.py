from __future__ import annotations

from dataclasses import replace

import pytest
from rich.cells import cell_len

from candist.report.terminal import summary
from tests.report.samples import Run, healthy, many, nothing, small
from tests.report.test_page import hostile

WORST = replace(
    many(90, 100),
    info=replace(
        hostile().info,
        name="漢字" * 100,
        signal=0.0,
        long="cut",
        long_texts=90,
        stages=tuple((f"stage {k}", 1000.0) for k in range(30)),
    ),
)


def test_small_run_exactly() -> None:
    text = summary(small().facts())
    assert text.splitlines() == [
        "mood: 7 of 8 rows labelled, 2 to review",
        "rows      ok 6 · empty 1 · failed 1",
        "labels    teacher and student 4 · student alone 3 · no label 1",
        "review    no answer 1 · the student is unsure 1",
        "sets      6, mean size 1.83 of 3 classes · 1: 2 · 2: 3 · 3: 1",
        "teacher   offline zero-shot teacher",
        "encoder   minilm · signal 0.50 (0 is none, 1 is full)",
        "time      1 min 04 s · annotate 1 min 01 s · train 3.2 s",
        "gold      6 rows scored; 95 % intervals in brackets",
        "          final labels right        83.3 % (43.6–97.0)",
        "          first candidates right    33.3 % (9.7–70.0)",
        "          difference                +50.0 points (16.7 to 83.3)",
        "          macro-F1                  60.0 % (33.3–100.0)",
        "          sets hold the gold label  80.0 % (37.6–96.4)",
        "          calibration error         44.2 %",
        "! fewer than 10 rows name a (5), b (4), c (2); add texts of these classes, or merge them with others",
        "! no final label is c; look at rows that name them before you use the labels",
        "! 1 gold label is no class of the task, for instance 'x'; those rows are not scored: add aliases, or",
        "  correct them",
    ]


@pytest.mark.parametrize("run", [small(), healthy(), nothing(), many(2), many(90), hostile(), WORST])
def test_it_fits_a_terminal(run: Run) -> None:
    text = summary(run.facts())
    lines = text.splitlines()
    assert len(lines) <= 25
    assert max(cell_len(line) for line in lines) <= 100
    assert "\x1b" not in text
    assert "nan" not in text
    text.encode()


def test_no_rows() -> None:
    assert summary(nothing().facts()).splitlines() == [
        "mood: 0 of 0 rows labelled, 0 to review",
        "rows      none",
        "labels    none",
        "review    none",
        "sets      none",
        "teacher   offline zero-shot teacher",
        "encoder   minilm",
        "time      0.0 s",
    ]


def test_only_the_first_warnings_are_shown() -> None:
    facts = replace(healthy().facts(), warnings=("one", "two", "three", "four", "five"))
    assert summary(facts).splitlines()[-4:] == ["! one", "! two", "! three", "! 2 more in the report"]
