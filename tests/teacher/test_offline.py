"""The offline teacher: standardised similarity, top-p sets, a way out for texts that fit nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from candist.task import OTHER, Label, LabelSpace
from candist.teacher import offline
from candist.teacher.offline import OfflineSettings, Scale

ABC = LabelSpace([Label(name=name) for name in "abc"])


def scale(classes: int, floor: float = -1.0) -> Scale:
    return Scale(np.zeros(classes), np.ones(classes), 1.0, floor)


def sets(similarity: list[list[float]], settings: OfflineSettings) -> list[tuple[str, ...]]:
    found = np.array(similarity)
    keys = [str(i) for i in range(len(found))]
    return [answer.labels for answer in offline.annotate(keys, found, scale(found.shape[1]), ABC, settings)]


def test_sets_hold_just_enough_probability() -> None:
    # softmax(log p) = p: the similarities below are the probabilities .6 .3 .1 and .4 .35 .25
    rows = np.log([[0.6, 0.3, 0.1], [0.25, 0.4, 0.35]]).tolist()
    assert sets(rows, OfflineSettings(top_p=0.6, temperature=1)) == [("a",), ("b", "c")]
    assert sets(rows, OfflineSettings(top_p=0.7, temperature=1)) == [("a", "b"), ("b", "c")]
    assert sets(rows, OfflineSettings(top_p=1, temperature=1)) == [("a", "b", "c"), ("b", "c", "a")]
    assert sets(rows, OfflineSettings(top_p=1, temperature=1, cap=2)) == [("a", "b"), ("b", "c")]
    assert sets(rows, OfflineSettings(mode="single", temperature=1)) == [("a",), ("b",)]


def test_a_class_that_is_near_everything_loses_its_head_start() -> None:
    generator = np.random.default_rng(0)
    similarity = generator.normal(0, 0.05, (1000, 3))
    similarity[np.arange(1000), np.arange(1000) % 3] += 0.2
    similarity[:, 0] += 0.3
    probs = offline.distribution(similarity, offline.fit_scale(similarity), 0.05)
    assert (similarity.argmax(axis=1) == np.arange(1000) % 3).mean() < 0.5
    assert (probs.argmax(axis=1) == np.arange(1000) % 3).mean() > 0.9


def test_one_text_is_not_standardised_away() -> None:
    similarity = np.array([[0.5, 0.1, 0.1]])
    assert offline.distribution(similarity, offline.fit_scale(similarity), 0.05).argmax() == 0


def test_descriptions_and_examples_share_one_vector() -> None:
    vectors = {"a: x": [1.0, 0.0], "one": [0.0, 1.0], "b": [0.0, 2.0]}
    labels = [Label(name="a", description="x", examples=("one",)), Label(name="b")]
    found = offline.class_vectors(labels, lambda texts: np.array([vectors[t] for t in texts], dtype=np.float32))
    assert found.tolist() == [pytest.approx([0.5**0.5, 0.5**0.5]), pytest.approx([0, 1])]


def test_a_text_far_from_every_class_is_none_of_these_where_the_task_allows_it() -> None:
    similarity = np.array([[0.5, 0.1, 0.1], [0.01, 0.02, 0.01]])
    space = LabelSpace(ABC.labels, other=True)
    found = list(offline.annotate(["1", "2"], similarity, scale(3, floor=0.1), space, OfflineSettings()))
    assert [answer.labels for answer in found] == [("a",), (OTHER,)]


@given(st.integers(0, 10_000), st.floats(0.05, 1), st.integers(1, 5))
def test_sets_are_never_empty_and_never_above_the_cap(seed: int, top_p: float, cap: int) -> None:
    similarity = np.random.default_rng(seed).normal(size=(5, 3))
    for labels in sets(similarity.tolist(), OfflineSettings(top_p=top_p, cap=cap)):
        assert 1 <= len(labels) <= min(cap, 3)
        assert len(set(labels)) == len(labels)
