"""Records, candidate sets and scores: small values with exact answers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from candist import metrics
from candist.candidates import first_labels, quality, to_mask, union
from candist.config import override
from candist.errors import SettingsError
from candist.pipeline.settings import Settings
from candist.records import Candidates, Prediction, Text, from_line, to_line
from candist.task import OTHER, Label, LabelSpace

ABC = LabelSpace([Label(name=name) for name in "abc"], other=True)


@given(
    key=st.text(), labels=st.lists(st.text(min_size=1)), note=st.text(), weights=st.lists(st.floats(0, 1), max_size=3)
)
def test_a_record_survives_its_line(key: str, labels: list[str], note: str, weights: list[float]) -> None:
    record = Candidates(key, tuple(labels), "ok", "teacher", tuple(weights), note)
    line = to_line(record)
    assert "\n" not in line
    assert from_line(Candidates, line) == record


@pytest.mark.parametrize("line", ["", "{", "[]", '{"key":"a","colour":"red"}', "{}"])
def test_a_broken_line_is_a_value_error(line: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  (the message is the JSON parser's)
        from_line(Candidates, line)


def test_lines_of_the_other_records() -> None:
    text = Text("k", "k", 1, "body", gold="a")
    assert from_line(Text, to_line(text)) == text
    prediction = Prediction("k", "k", 1, "body", "a", 0.5, ("a",), "both", False, "", "ok")
    assert from_line(Prediction, to_line(prediction)) == prediction


def test_union_keeps_first_mention_and_averages_weights() -> None:
    one = Candidates("k", ("b", "a"), "ok", "one", (0.75, 0.25))
    two = Candidates("k", ("c", "a"), "ok", "two")
    silent = Candidates("k", status="refused", source="three")
    joined = union([one, two, silent])
    assert joined.labels == ("b", "a", "c")
    assert joined.weights == (0.375, 0.375, 0.25)
    assert union([silent, Candidates("k", status="abstained", source="four")]).status == "refused"
    assert union([one]) is one


def test_mask_and_first_labels_leave_other_out() -> None:
    answers = [Candidates("1", ("b", OTHER)), Candidates("2", (OTHER,)), Candidates("3", status="unparsed")]
    assert to_mask(answers, ABC).tolist() == [[False, True, False], [False] * 3, [False] * 3]
    assert first_labels(answers, ABC).tolist() == [1, -1, -1]


def test_quality_of_sets_by_hand() -> None:
    mask = np.array([[True, False, False], [True, True, False], [False, True, True], [True, True, True]])
    found = quality(mask, np.array([0, 2, 1, -1]))
    assert found.coverage == pytest.approx(2 / 3)
    assert found.beta == pytest.approx((1 + 0.5 + 0.5) / 3)
    assert found.f1 == pytest.approx(2 / 3)
    assert found.size == pytest.approx(5 / 3)


def test_wilson_against_published_values() -> None:
    interval = metrics.wilson(8, 10)
    assert (round(interval.low, 3), round(interval.high, 3)) == (0.490, 0.943)
    assert metrics.wilson(0, 0).low == 0
    assert metrics.wilson(10, 10).high == pytest.approx(1)


def test_macro_f1_by_hand_and_no_label_counts_as_wrong() -> None:
    gold, labels = np.array([0, 0, 1, 1]), np.array([0, -1, 1, 0])
    assert metrics.accuracy(labels, gold) == 0.5
    assert metrics.macro_f1(labels, gold, 3) == pytest.approx((2 / 4 + 2 / 3) / 2)
    assert metrics.confusion(labels, gold, 3).tolist() == [[1, 0, 0, 1], [1, 1, 0, 0], [0, 0, 0, 0]]


def test_calibration_error_is_zero_for_a_calibrated_answer() -> None:
    probabilities = np.repeat([0.25, 0.75], 200)
    right = np.array([i % 4 == 0 for i in range(200)] + [i % 4 != 0 for i in range(200)])
    assert metrics.expected_calibration_error(probabilities, right, bins=2) == pytest.approx(0)
    assert metrics.expected_calibration_error(probabilities, ~right, bins=2) == pytest.approx(0.5)


def test_bootstrap_holds_the_truth_and_repeats_with_its_seed() -> None:
    right, reference = np.arange(500) % 5 != 0, np.arange(500) % 4 != 0
    one, again = (metrics.paired_difference(right, reference, seed=3) for _ in range(2))
    assert one == again
    assert one.value == pytest.approx(0.05)
    assert one.low < 0.05 < one.high


def test_neighbours_agree_where_vectors_carry_the_label_and_not_elsewhere() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 600)
    informed = np.eye(3)[labels] + 0.1 * generator.normal(size=(600, 3))
    assert metrics.neighbour_agreement(informed, labels) > 0.95
    assert abs(metrics.neighbour_agreement(generator.normal(size=(600, 3)), labels)) < 0.05
    assert np.isnan(metrics.neighbour_agreement(informed, np.zeros(600, dtype=int)))


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("seed", "setting 'seed' has no '='; expected section.key=value; for instance seed=1"),
        ("sed=1", "unknown setting 'sed'; did you mean 'seed'?"),
        ("student.refinery.taw=1", "unknown setting 'student.refinery.taw'; did you mean 'student.refinery.tau'?"),
        ("student=1", "unknown setting 'student'; did you mean 'student.lr'?"),
        ("student.lr=-1", "'student.lr' is '-1'; expected greater than 0; change it"),
        ("long=half", "'long' is 'half'; expected 'cut' or 'mean'; change it"),
    ],
)
def test_settings_refuse_what_they_do_not_know(assignment: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        override(Settings(), [assignment])
    assert str(caught.value) == message


def test_settings_take_text() -> None:
    changed = override(Settings(), ["student.refinery.tau=0.99", "student.refinery.sharpen=no", "seed=7"])
    assert (changed.student.refinery.tau, changed.student.refinery.sharpen, changed.seed) == (0.99, False, 7)
