"""The built-in teacher: a zero-shot annotator by sentence embeddings. It needs no key and no server, and it is no LLM.

similarity of text and class → standardised per class over the corpus → softmax → the smallest set of classes that
holds ``top_p`` of the probability, at most ``cap`` of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from candist.config import Section
from candist.records import Candidates
from candist.task import OTHER, Label, LabelSpace

Vectors = NDArray[np.float32]
Floats = NDArray[np.float64]

SOURCE = "offline"
#: A corpus of few texts says little about a class's usual similarity: as many pseudo-texts pull it to the mean class.
PRIOR_TEXTS = 30


class OfflineSettings(Section):
    """The offline teacher's constants: one set for all tasks."""

    mode: Literal["candidates", "single"] = Field("candidates", description="Name all likely classes, or one.")
    top_p: float = Field(0.7, gt=0, le=1, description="How much probability a candidate set must hold.")
    temperature: float = Field(0.05, gt=0, description="Softmax temperature, in units of cosine similarity.")
    cap: int = Field(5, ge=1, description="Most candidates a text can have.")


@dataclass(frozen=True, slots=True)
class Scale:
    """What is usual over the corpus: mean (K,) and deviation (K,) of each class's similarity, and their mean deviation.

    ``floor`` is the best similarity below which a text fits no class: Tukey's far-out fence, Q1 - 3 IQR.
    """

    mean: Floats
    deviation: Floats
    unit: float
    floor: float


def class_vectors(labels: Sequence[Label], embed: Callable[[Sequence[str]], Vectors]) -> Vectors:
    """One unit vector a class, (K, D): the mean of its description's and its example texts' embeddings."""
    writings = [(f"{label.name}: {label.description}".strip(": "), *label.examples) for label in labels]
    found = unit_rows(embed([text for texts in writings for text in texts]))
    ends = np.cumsum([len(texts) for texts in writings])
    means = [part.mean(axis=0) for part in np.split(found, ends[:-1])]
    return unit_rows(np.stack(means))


def unit_rows(vectors: Vectors) -> Vectors:
    """Rows scaled to the norm 1."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-12), dtype=np.float32)


def similarities(texts: Vectors, classes: Vectors) -> Floats:
    """Cosine similarities (N, K) of texts (N, D) and classes (K, D)."""
    return (unit_rows(texts) @ classes.T).astype(np.float64)


def fit_scale(similarity: Floats) -> Scale:
    """Learn from the corpus (N, K) what is usual; see `PRIOR_TEXTS` for small ones."""
    rows = len(similarity)
    weight = rows / (rows + PRIOR_TEXTS)
    mean = weight * similarity.mean(axis=0) + (1 - weight) * similarity.mean()
    deviation = similarity.std(axis=0)
    unit = float(deviation.mean())
    deviation = weight * deviation + (1 - weight) * unit
    low, high = np.quantile(similarity.max(axis=1), [0.25, 0.75])
    return Scale(mean, np.maximum(deviation, 1e-9), unit, float(low - 3 * (high - low)))


def distribution(similarity: Floats, scale: Scale, temperature: float) -> Floats:
    """Class probabilities (N, K): softmax of the standardised similarities, brought back to cosine units."""
    scores = (similarity - scale.mean) / scale.deviation * scale.unit / temperature
    scores -= scores.max(axis=1, keepdims=True)
    powers = np.exp(scores)
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def annotate(
    keys: Sequence[str], similarity: Floats, scale: Scale, space: LabelSpace, settings: OfflineSettings
) -> Iterator[Candidates]:
    """Yield one candidate set a text, most likely class first.

    Parameters
    ----------
    keys
        N text keys.
    similarity
        (N, K), from `similarities`.
    scale
        From `fit_scale` on the whole corpus.
    space
        The classes; where it allows `OTHER`, a text far from every class gets it alone.
    settings
        Mode, top-p, temperature, cap.
    """
    probs = distribution(similarity, scale, settings.temperature)
    order = np.argsort(-probs, axis=1, kind="stable")
    for i, key in enumerate(keys):
        if space.other and similarity[i].max() < scale.floor:
            yield Candidates(key, (OTHER,), source=SOURCE)
            continue
        ranked = probs[i, order[i]]
        size = 1
        if settings.mode == "candidates":
            # The rounding keeps a sum of 0.7000000001 against 0.7 from adding a class by chance of the platform.
            size = int(np.searchsorted(np.cumsum(ranked).round(9), round(settings.top_p, 9))) + 1
            size = min(size, settings.cap, len(space))
        chosen = order[i, :size]
        names = tuple(space.names[k] for k in chosen)
        yield Candidates(key, names, source=SOURCE, weights=tuple(float(w) for w in ranked[:size].round(6)))
