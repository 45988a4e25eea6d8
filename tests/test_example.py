"""The example that ships: its texts, its task, and what README says the demo prints."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import pytest

from candist.task import Task

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "example"


def rows(name: str) -> list[dict[str, str]]:
    with (EXAMPLE / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def four_grams(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[i : i + 4]) for i in range(len(words) - 3)}


def test_there_are_enough_messages_and_no_two_are_alike() -> None:
    texts = [row["text"] for row in rows("messages.csv") + rows("heldout.csv")]
    assert len(texts) >= 600
    assert len(set(texts)) == len(texts)
    for one, other in combinations([four_grams(text) for text in texts], 2):
        assert len(one & other) * 2 < max(1, min(len(one), len(other)))


def test_every_class_is_there_and_ambiguous_messages_name_all_acceptable_labels() -> None:
    names = set(Task.load(EXAMPLE / "task.yaml").space.names)
    assert len(names) >= 8
    for file in ("messages_gold.csv", "heldout.csv"):
        gold = rows(file)
        assert {row["label"] for row in gold} == names
        acceptable = [row["also"].split("|") for row in gold if row["also"]]
        assert len(acceptable) > len(gold) / 20
        assert all(set(also) <= names for also in acceptable)
    assert [row["id"] for row in rows("messages.csv")] == [row["id"] for row in rows("messages_gold.csv")]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> str:
    place = tmp_path_factory.mktemp("demo")
    command = [sys.executable, str(EXAMPLE / "demo.py")]
    return subprocess.run(command, cwd=place, capture_output=True, text=True, check=True).stdout


def numbers(line: str) -> list[float]:
    return [float(number.replace(",", "")) for number in re.findall(r"\d[\d,]*\.?\d*", line)]


def test_the_student_is_two_points_above_the_teacher(demo: str) -> None:
    teacher, student = (
        numbers(line)[0] for line in demo.splitlines() if line.startswith(("  offline teacher", "  student"))
    )
    assert 60 <= teacher <= 85
    assert student >= teacher + 2


def test_readme_shows_what_the_demo_prints(demo: str) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = re.search(r"The demo ends with:\n\n```text\n(.*?)```", readme, re.DOTALL)
    assert shown
    said = {re.sub(r"\d[\d,]*\.?\d*", "#", line): line for line in demo.splitlines()}
    for line in shown[1].splitlines():
        form = re.sub(r"\d[\d,]*\.?\d*", "#", line)
        assert form in said, f"the demo does not print {line!r}"
        # Another processor rounds otherwise: a few rows may differ, not more.
        for ours, theirs in zip(numbers(line), numbers(said[form]), strict=True):
            assert abs(ours - theirs) <= max(2.5, 0.05 * ours), (line, said[form])
