from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from candist.records import Candidates
from candist.report.page import binned_sizes, duration, render
from candist.task import OTHER
from tests.report.samples import Run, healthy, many, nothing, row, small, space

HOSTILE = "<script>alert('1')</script> \"quoted\" & \u202eturned\u202c \ud83d 👩\u200d👧"
VOID = {"meta", "br", "img", "link", "hr", "input"}


class Page(HTMLParser):
    """Reads a page and holds it to what every page must keep."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def hostile() -> Run:
    rows = (
        row(1, text=HOSTILE * 10, id=HOSTILE, label=HOSTILE, candidates=(HOSTILE, OTHER), reason=HOSTILE, gold="x"),
        row(2, text="x" * 100_000, label=OTHER, candidates=(OTHER,), review=True, gold=HOSTILE),
        row(3, text="مرحبا", label="", probability=None, source="none", review=True, gold=HOSTILE),
    )
    answers = tuple(
        Candidates(p.key, p.candidates, "ok" if p.candidates else "failed", HOSTILE, note=HOSTILE) for p in rows
    )
    values = {HOSTILE: HOSTILE}
    run = Run(rows, answers, space(HOSTILE, "b", other=True))
    return run.said(
        name=HOSTILE,
        instruction=HOSTILE,
        teacher=HOSTILE,
        encoder=HOSTILE,
        created=HOSTILE,
        long=HOSTILE,
        long_texts=2,
        probability_kind=HOSTILE,
        stages=((HOSTILE, 1.0),),
        settings=values,
        versions=values,
    )


RUNS = {
    "small": small(),
    "healthy": healthy(),
    "nothing": nothing(),
    "two classes": many(2),
    "many classes": many(90),
    "hostile": hostile(),
    "no labels": replace(
        small(), predictions=tuple(replace(p, label="", probability=None) for p in small().predictions)
    ),
    "gold that is no class": replace(healthy(), predictions=(row(1, gold="x"),)),
}
PAGES = {name: render(run.facts()) for name, run in RUNS.items()}


@pytest.mark.parametrize("name", PAGES)
def test_page_is_balanced_and_loads_nothing(name: str) -> None:
    html = PAGES[name]
    html.encode()
    page = Page(html)
    assert html.startswith("<!DOCTYPE html>")
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "base", "form", "img"}
    for _, attributes in page.tags:
        assert not {"src", "href", "srcset", "action"} & attributes.keys()
        assert not any(key.startswith("on") for key in attributes)
    assert "url(" not in html
    assert "@import" not in html
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


@pytest.mark.parametrize("name", PAGES)
def test_page_can_be_read_aloud(name: str) -> None:
    page = Page(PAGES[name])
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(below - above <= 1 for above, below in pairwise(levels))
    assert all(attributes.get("scope") in ("col", "row") for attributes in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(attributes.get("role") == "img" for attributes in page.all("svg"))
    figures = [i for i, (tag, _) in enumerate(page.tags) if tag == "svg"]
    assert all(page.tags[i + 1][0] == "title" for i in figures)
    assert len(page.all("figcaption")) == len(figures)


@pytest.mark.parametrize("name", PAGES)
def test_sections_do_not_depend_on_the_data(name: str) -> None:
    text = Page(PAGES[name]).text
    for heading in ("What came in", "What the teacher said", "Labels", "Doubt", "How it was made"):
        assert heading in text
    assert "nan" not in text.lower().split()


@pytest.mark.parametrize("name", ["nothing", "healthy", "small"])
def test_tables_keep_their_columns(name: str) -> None:
    heads = re.findall(r'<th scope="col"[^>]*>([^<]+)</th>', PAGES[name])
    for head in ("Status", "Source", "Answers", "Named first", "In the set", "Final label", "Reason", "Stage", "Time"):
        assert head in heads


def test_texts_from_the_data_are_escaped_and_shown() -> None:
    html = PAGES["hostile"]
    page = Page(html)
    shown = "<script>alert('1')</script> \"quoted\" & ⟨U+202E⟩turned⟨U+202C⟩ ⟨U+D83D⟩ 👩\u200d👧"
    assert "<script" not in html
    assert "\u202e" not in html
    assert page.text.count(shown) > 20
    assert "مرحبا" in page.text


def test_long_texts_fold_and_the_rest_is_counted() -> None:
    html = PAGES["hostile"]
    assert len(html) < 80_000
    assert "98,000 more characters are left out here." in Page(html).text
    assert len(Page(PAGES["small"]).all("details")) == 2
    assert len(Page(PAGES["many classes"]).all("details")) == 2 + 25


def test_key_figures() -> None:
    text = Page(PAGES["small"]).text
    assert "Rows labelled 7 of 8 (87.5 %)" in text
    assert "Accuracy 83.3 % 95 % interval 43.6–97.0 %" in text
    assert "To review 2 25.0 % of the rows" in text
    assert "Mean set size 1.83 of 3 classes" in text
    assert "Total time 1 min 04 s 2 stages" in text
    assert "Accuracy" not in Page(PAGES["healthy"]).text


def test_warnings_come_before_the_sections() -> None:
    text = Page(PAGES["small"]).text
    assert text.index("Please read first: 3 points") < text.index("What came in")
    assert "No final label is c; look at" in text
    assert "Please read first" not in Page(PAGES["healthy"]).text


def test_gold_is_shown_only_where_there_is_any() -> None:
    assert "Against gold" not in Page(PAGES["healthy"]).text
    text = Page(PAGES["small"]).text
    for words in ("Coverage of the sets", "Macro-F1", "Calibration error (ECE)", "Which classes are confused"):
        assert words in text
    assert "+50.0 points" in text
    odd = Page(PAGES["gold that is no class"]).text
    assert "0 rows are scored" in odd
    assert "Macro-F1" not in odd


def test_confusion_is_a_matrix_for_few_classes_and_a_list_for_many() -> None:
    few, several = PAGES["two classes"], PAGES["many classes"]
    assert 'class="heat"' in few
    assert 'class="heat"' not in several
    assert "The most confused pairs (20) over 400 rows." in Page(several).text
    assert 'class="scroll tall"' in several
    assert 'class="scroll tall"' not in few


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.6, "1 min 00 s"), (3599.6, "1 h 00 min"), (7620, "2 h 07 min")],
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_set_sizes_are_binned_without_gaps() -> None:
    assert binned_sizes([(1, 5), (4, 2)]) == [("1", 5), ("2", 0), ("3", 0), ("4", 2)]
    assert binned_sizes([(0, 1), (1, 2)]) == [("0", 1), ("1", 2)]
    assert binned_sizes([(1, 5), (60, 1)])[0] == ("1–3", 5)
    assert sum(n for _, n in binned_sizes([(k, 1) for k in range(1, 78)])) == 77
    assert binned_sizes([]) == []
