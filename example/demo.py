"""``make demo``: the main job on the example that ships, scored on its held-out messages."""

from __future__ import annotations

import csv
import shutil
import time
from pathlib import Path

import candist
from candist.cli.progress import shown
from candist.metrics import wilson
from candist.report.terminal import summary

HERE = Path(__file__).parent
OUT = Path("runs") / "demo"


def accuracy(title: str, labels: list[str], held: list[dict[str, str]]) -> str:
    """One line: how many labels are the best one, and how many are among the acceptable ones."""
    best = sum(label == row["label"] for label, row in zip(labels, held, strict=True))
    fine = sum(label in (row["label"], *row["also"].split("|")) for label, row in zip(labels, held, strict=True))
    return f"  {title:<16}{wilson(best, len(held)).percent()}, acceptable {100 * fine / len(held):.1f} %"


def main() -> None:
    """Run, label the held-out messages, print what came of it."""
    start = time.perf_counter()
    task = candist.Task.load(HERE / "task.yaml")
    shutil.rmtree(OUT, ignore_errors=True)
    with shown(quiet=False) as progress:
        result = candist.run(task, HERE / "messages.csv", OUT, progress=progress)
    with (HERE / "heldout.csv").open(encoding="utf-8", newline="") as file:
        held = list(csv.DictReader(file))
    teacher = [answer.labels[0] for answer in candist.annotate(task, HERE / "heldout.csv")]
    student = [row.label for row in candist.label(OUT / "model", HERE / "heldout.csv")]
    print(summary(result.facts))
    print(f"\nAccuracy on {len(held)} held-out messages that neither has seen (95 % interval):")
    print(accuracy("offline teacher", teacher, held))
    print(accuracy("student", student, held))
    print(f"\nlabels  {OUT / 'labels.csv'}  and .parquet\nreport  {OUT / 'report.html'}")
    print(f"model   {OUT / 'model'}  (.venv/bin/candist label {OUT / 'model'} new.csv)")
    print(f"\ndone in {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
