"""Students on a simulated teacher's answers, and on gold, on each data set (make bench-answers)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks import common
from candist import encoders
from candist.candidates import quality

ROWS = {
    "Distillation": ("sa", common.DISTILLED),
    "CanDist_add": ("ca_add", common.REFINED),
    "CanDist_all": ("ca_all", common.REFINED),
}


def main(folder: Path) -> None:
    """Print the table of every data set."""
    encoder = encoders.load(encoders.DEFAULT_ENCODER)
    for name in common.DATA_SETS:
        data = common.load(folder / name, encoder)
        lines = []
        for title, (field, settings) in ROWS.items():
            mask = common.answers(data, field)
            row = common.student_row(data, mask, settings)
            sets = quality(mask, data.train.gold)
            lines.append([title, f"{sets.coverage:.3f} / {sets.size:.2f}", common.score(row.train),
                          common.score(row.test), f"{row.seconds:.0f}"])  # fmt: skip
        # SFT is trained on gold by definition; its accuracy on its own training rows would mean nothing.
        gold = np.eye(len(data.task.space), dtype=bool)[data.train.gold]
        row = common.student_row(data, gold, common.PLAIN)
        lines.append(["SFT", "gold", "–", common.score(row.test), f"{row.seconds:.0f}"])
        common.table(
            f"{name}, simulated teacher; accuracy %, {len(common.SEEDS)} seeds, 95 % interval over texts",
            ["row", "coverage / size", "train", "test", "s a training"],
            lines,
        )
    print(f"\npeak memory {common.memory()}")


if __name__ == "__main__":
    common.start(main)
