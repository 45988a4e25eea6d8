from __future__ import annotations

import math
from dataclasses import replace

import pytest

from candist.records import Candidates
from candist.report.facts import TEXT_LIMIT, gather
from candist.report.wording import visible
from candist.task import OTHER
from tests.report.samples import INFO, Run, healthy, nothing, row, small, space


def test_small_run_is_counted_exactly() -> None:
    facts = small().facts()
    assert (facts.rows, facts.usable, facts.labelled, facts.review) == (8, 7, 7, 2)
    assert facts.statuses == (("ok", 6), ("empty", 1), ("failed", 1))
    assert facts.sources == (("both", 4), ("student", 3), ("teacher", 0), ("none", 1))
    assert facts.reasons == (("no answer", 1), ("the student is unsure", 1))
    assert facts.sets == 6
    assert facts.set_sizes == ((1, 2), (2, 3), (3, 1))
    assert facts.mean_size == pytest.approx(11 / 6)
    assert [(c.name, c.first, c.named, c.labels) for c in facts.classes] == [
        ("a", 4, 5, 4),
        ("b", 2, 4, 3),
        ("c", 0, 2, 0),
    ]
    assert facts.classes[0].first_share == pytest.approx(4 / 6)
    assert facts.classes[0].named_share == pytest.approx(5 / 6)
    assert facts.classes[0].label_share == pytest.approx(4 / 7)
    assert facts.with_probability == sum(facts.probabilities) == 7
    assert facts.probabilities[18] == 1
    assert facts.probabilities[19] == 1
    assert facts.probabilities[11] == 1  # 0.55 lies on an edge
    assert facts.seconds == 64.25
    (teacher,) = facts.teachers
    assert (teacher.source, teacher.answers, teacher.statuses) == ("llm", 7, (("ok", 6), ("failed", 1)))
    assert teacher.size == pytest.approx(11 / 6)


def test_small_run_is_scored_exactly() -> None:
    gold = small().facts().gold
    assert gold is not None
    assert (gold.rows, gold.unknown, gold.example) == (6, 1, "x")
    assert gold.final.value == pytest.approx(5 / 6)
    assert gold.teacher.value == pytest.approx(2 / 6)
    assert gold.difference.value == pytest.approx(3 / 6)
    assert gold.difference.low <= 0.5 <= gold.difference.high
    assert gold.macro_f1.value == pytest.approx((0.8 + 1 + 0) / 3)
    assert gold.set_rows == 5
    assert gold.coverage.value == gold.sets.coverage == pytest.approx(0.8)
    assert gold.sets.beta == pytest.approx(0.5)
    assert gold.sets.f1 == pytest.approx(8 / 13)
    assert gold.sets.size == pytest.approx(2.0)
    assert gold.beta.value == pytest.approx(gold.sets.beta)
    assert gold.f1.value == pytest.approx(gold.sets.f1)
    assert gold.beta.low <= gold.beta.value <= gold.beta.high
    assert gold.f1.low < gold.f1.value < gold.f1.high
    assert gold.names == ("a", "b", "c")
    assert gold.confusion == ((2, 0, 0, 0), (0, 3, 0, 0), (1, 0, 0, 0))
    assert gold.confused == (("c", "a", 1),)
    assert gold.curve_rows == sum(rows for _, _, rows in gold.curve) == 6
    assert gold.error == pytest.approx((0.1 + 0.2 + 0.6 + 0.6 + 0.7 + 0.45) / 6)


def test_seed_fixes_the_intervals() -> None:
    assert small().facts(seed=3) == small().facts(seed=3)


def test_doubtful_rows_are_those_to_review_then_the_least_sure() -> None:
    run = small()
    assert [doubt.row for doubt in run.facts().doubtful] == [5, 3, 7, 4, 2, 1, 8]
    assert [doubt.row for doubt in run.facts(doubtful=2).doubtful] == [5, 3]
    undecided = row(9, label="", probability=None, source="none", review=True, reason="odd", status="refused")
    facts = replace(run, predictions=(undecided, *run.predictions)).facts()
    assert [doubt.row for doubt in facts.doubtful][:4] == [5, 3, 9, 7]


def test_long_text_is_cut_and_the_rest_counted() -> None:
    run = replace(healthy(), predictions=(row(1, text="x" * 100_000),))
    (doubt,) = run.facts().doubtful
    assert doubt.text == "x" * TEXT_LIMIT
    assert doubt.cut == 100_000 - TEXT_LIMIT


def test_unlabelled_rows_count_as_wrong() -> None:
    labelled = row(1, label="a", candidates=("a",), gold="a")
    without = row(2, label="", probability=None, source="none", gold="a", status="refused")
    answers = (Candidates("t1", ("a",)), Candidates("t2", status="refused"))
    gold = Run((labelled, without), answers, space("a", "b")).facts().gold
    assert gold is not None
    assert gold.final.value == gold.teacher.value == 0.5
    assert gold.confusion == ((1, 0, 1), (0, 0, 0))
    assert (gold.set_rows, gold.curve_rows) == (1, 1)


def test_other_is_an_outcome_where_the_task_allows_it() -> None:
    rows = (
        row(1, label=OTHER, probability=None, source="teacher", candidates=(OTHER,), gold="other"),
        row(2, label="a", candidates=("a", OTHER), gold="None of these"),
        row(3, label="b", candidates=("b",), gold="b"),
    )
    answers = tuple(Candidates(p.key, p.candidates) for p in rows)
    facts = Run(rows, answers, space("a", "b", other=True)).facts()
    assert facts.set_sizes == ((0, 1), (1, 2))
    assert [(c.name, c.first, c.named, c.labels) for c in facts.classes] == [
        ("a", 1, 1, 1),
        ("b", 1, 1, 1),
        (OTHER, 1, 2, 1),
    ]
    gold = facts.gold
    assert gold is not None
    assert gold.names == ("a", "b", OTHER)
    assert gold.confusion == ((0, 0, 0, 0), (0, 1, 0, 0), (1, 0, 1, 0))
    assert gold.final.value == pytest.approx(2 / 3)
    assert gold.set_rows == 1
    assert OTHER not in " ".join(facts.warnings)
    # Where the task does not allow it, such gold is no class.
    assert (plain := Run(rows[1:2], answers[2:], space("a", "b")).facts().gold) is not None
    assert (plain.rows, plain.unknown) == (0, 1)


def test_gold_that_is_never_a_class_gives_no_scores() -> None:
    gold = replace(healthy(), predictions=(row(1, gold="x"),)).facts().gold
    assert gold is not None
    assert (gold.rows, gold.unknown, gold.curve) == (0, 1, ())
    scores = (gold.final, gold.teacher, gold.difference, gold.macro_f1, gold.coverage)
    assert all(math.isnan(score.value) for score in scores)


def test_no_rows() -> None:
    facts = nothing().facts()
    assert (facts.rows, facts.labelled, facts.sets, facts.seconds) == (0, 0, 0, 0)
    assert math.isnan(facts.mean_size)
    assert (facts.warnings, facts.gold, facts.doubtful) == ((), None, ())


def test_sources_are_told_apart_and_notes_counted() -> None:
    answers = (
        Candidates("t1", ("a", "b"), source="llm"),
        Candidates("t1", ("b",), source="rules", note="'z' is no class"),
        Candidates("t2", status="refused", source="llm"),
    )
    merged = {"t1": Candidates("t1", ("a", "b"), source="union"), "t2": answers[2]}
    facts = gather((row(1), row(2, label="", status="refused")), answers, merged, space("a", "b"), INFO)
    assert [(t.source, t.answers, t.statuses) for t in facts.teachers] == [
        ("llm", 2, (("ok", 1), ("refused", 1))),
        ("rules", 1, (("ok", 1),)),
    ]
    assert (facts.odd, facts.odd_example) == (1, "'z' is no class")
    assert facts.sets == 1


def test_a_healthy_run_warns_of_nothing() -> None:
    assert healthy().facts().warnings == ()
    assert healthy().said(signal=None).facts().warnings == ()
    assert healthy().said(signal=float("nan")).facts().warnings == ()
    assert healthy().said(long="mean", long_texts=30).facts().warnings == ()


def bad_rows(run: Run, count: int, status: str, label: str = "a") -> Run:
    """The same run with more rows of a status, and an answer that failed where the text was readable."""
    more = [row(1000 + i, status=status, label=label) for i in range(count)]
    return replace(run, predictions=(*run.predictions, *more))


FULL = ("a", "b", "c")
ASK = "describe the classes so that they can be told apart, or ask for fewer candidates"
WARNINGS = {
    "all classes": (
        healthy([FULL, ("b", "c", "a"), ("c", "a", "b")]),
        f"every candidate set holds all 3 classes: the sets tell nothing; {ASK}",
    ),
    "nearly all classes": (
        healthy([*[FULL, ("b", "c", "a"), ("c", "a", "b")] * 10, ("a",)], rows=310),
        f"96.8 % of the candidate sets hold all 3 classes: they tell nothing; {ASK}",
    ),
    "one class a set": (
        healthy([("a",), ("b",), ("c",)]),
        "every candidate set holds one class: there is nothing to refine, and the student only imitates the teacher; "
        "ask the teacher for all classes that may fit, or join the answers of several teachers",
    ),
    "never named": (
        replace(healthy(), space=space("a", "b", "c", "d", "e")),
        "the teacher never names d, e; describe them better, or remove them from the task",
    ),
    "hardly named": (
        healthy([*[("a",), ("b", "a")] * 10, ("c",)], rows=42),
        "fewer than 10 rows name c (2); add texts of these classes, or merge them with others",
    ),
    "never final": (
        healthy([("a", "c"), ("b",)]),
        "no final label is c; look at rows that name them before you use the labels",
    ),
    "no label": (
        replace(healthy(), predictions=tuple(replace(p, label="") for p in healthy().predictions)),
        "no row has a label; see the statuses and the notes of the answers",
    ),
    "no signal": (
        healthy().said(signal=0.119),
        "the encoder carries no signal for these texts (neighbours agree 0.12 beyond chance); "
        "take an encoder made for their language and field",
    ),
    "cut texts": (
        healthy().said(long_texts=4),
        "6.7 % of the texts are longer than the encoder reads and were cut; "
        "average over their parts, or take an encoder that reads more",
    ),
    "no answers": (
        bad_rows(healthy(), 16, "refused"),
        "21.1 % of the texts have no answer from the teacher (refused 16); look at the answers' notes, then ask again",
    ),
    "unusable rows": (
        bad_rows(healthy(), 16, "malformed", ""),
        "21.1 % of the rows cannot be used (malformed 16); check the input file",
    ),
    "unknown gold": (
        replace(healthy(), predictions=tuple(replace(p, gold="Z") for p in healthy().predictions)),
        "60 gold labels are no class of the task, for instance 'Z'; "
        "those rows are not scored: add aliases, or correct them",
    ),
}


@pytest.mark.parametrize("case", WARNINGS)
def test_each_warning_comes_alone(case: str) -> None:
    run, expected = WARNINGS[case]
    assert run.facts().warnings == (expected,)


def test_one_and_the_same_class_everywhere() -> None:
    first, *others = healthy([("a",)]).facts().warnings
    assert first.startswith("every candidate set names the same one class, 'a': nothing to learn; ")
    assert others == ["the teacher never names b, c; describe them better, or remove them from the task"]


def test_labels_worse_than_the_teacher() -> None:
    worse = [replace(p, gold=p.label, label="a" if p.row % 2 else p.label) for p in healthy().predictions]
    (warning,) = replace(healthy(), predictions=tuple(worse)).facts().warnings
    assert warning.startswith("the final labels score worse than the teacher's first candidates (−33.3 points (")
    assert warning.endswith("; use the teacher's labels, or another encoder")


def test_long_lists_of_classes_are_cut() -> None:
    names = [f"n{k:02}" for k in range(20)]
    (warning,) = replace(healthy(), space=space("a", "b", "c", *names)).facts().warnings
    assert warning.startswith(f"the teacher never names {', '.join(names[:8])} and 12 more; ")


def test_steering_characters_become_visible() -> None:
    assert visible("a\u202eb\x1b[31m\ud800\u2028") == "a⟨U+202E⟩b⟨U+001B⟩[31m⟨U+D800⟩⟨U+2028⟩"
    assert visible("a\tb\n👩\u200d👧 عربي") == "a\tb\n👩\u200d👧 عربي"
