"""The warning that the encoder carries no signal, with the real encoder: it comes for shuffled letters only."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import candist
from candist import Settings, Task
from candist.config import override

EXAMPLE = Path(__file__).parents[2] / "example"
QUICK = override(Settings(), ["student.epochs=1", "student.min_steps=1"])


def test_shuffled_letters_are_warned_about_and_messages_are_not(tmp_path: Path) -> None:
    task = Task.load(EXAMPLE / "task.yaml").model_copy(update={"id": "", "gold": ""})
    with (EXAMPLE / "messages.csv").open(encoding="utf-8", newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)][:300]
    draw = random.Random(0)
    shuffled = ["".join(draw.sample(text, len(text))) for text in texts]
    warned = []
    for name, given in (("messages", texts), ("shuffled", shuffled)):
        facts = candist.run(task, given, tmp_path / name, settings=QUICK).facts
        warned.append(any(warning.startswith("the encoder carries no signal") for warning in facts.warnings))
    assert warned == [False, True]
