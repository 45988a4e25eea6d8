"""Offline teacher → single-label distillation → candidates + refinery, on each data set (make bench-offline)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks import common
from candist import encoders
from candist.candidates import first_labels, quality, to_mask
from candist.records import Candidates
from candist.task import LabelSpace
from candist.teacher import offline


def main(folder: Path) -> None:
    """Print the table of every data set."""
    encoder = encoders.load(encoders.DEFAULT_ENCODER)
    for name in common.DATA_SETS:
        data = common.load(folder / name, encoder)
        space = data.task.space
        classes = offline.class_vectors(data.task.labels, encoder.encode)
        scale = offline.fit_scale(offline.similarities(data.train.vectors, classes))
        given = ask(data.train.vectors, classes, scale, space)
        mask, first = to_mask(given, space), first_labels(given, space)
        single = np.eye(len(space), dtype=bool)[first]
        test_first = first_labels(ask(data.test.vectors, classes, scale, space), space)
        teacher = common.Row((first == data.train.gold)[None], (test_first == data.test.gold)[None])
        rows = {
            "offline teacher": teacher,
            "single labels, cross-entropy": common.student_row(data, single, common.DISTILLED),
            "candidates + refinery": common.student_row(data, mask, common.REFINED),
        }
        sets = quality(mask, data.train.gold)
        ours = rows["candidates + refinery"]
        common.table(
            f"{name}: sets with coverage {sets.coverage:.3f}, {sets.size:.2f} classes; accuracy %, "
            f"{len(common.SEEDS)} seeds, 95 % interval over texts",
            ["row", "train", "test", "test, refinery minus row", "s a training"],
            [
                [title, common.score(row.train), common.score(row.test),
                 "–" if row is ours else common.show(common.gain(ours.test, row.test)), f"{row.seconds:.0f}"]
                for title, row in rows.items()
            ],
        )  # fmt: skip
    print(f"\npeak memory {common.memory()}")


def ask(
    vectors: encoders.Vectors, classes: encoders.Vectors, scale: offline.Scale, space: LabelSpace
) -> list[Candidates]:
    """The teacher's answers; ``scale``, what is usual, was learned from the train split's texts."""
    keys = [str(i) for i in range(len(vectors))]
    similarity = offline.similarities(vectors, classes)
    return list(offline.annotate(keys, similarity, scale, space, offline.OfflineSettings()))


if __name__ == "__main__":
    common.start(main)
