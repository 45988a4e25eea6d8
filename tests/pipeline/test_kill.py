"""kill -9 at 20 random moments, then the same command again: the labels are those of an unbroken run, byte for byte."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from candist.pipeline import stages
from tests.pipeline import killed_run


def test_twenty_kills_change_no_byte(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.pipeline.killed_run", str(tmp_path), "20", "7"]
    root = Path(__file__).parents[2]
    result = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    for i in range(int(result.stdout)):
        for name in ("labels.csv", "labels.parquet", "annotations.jsonl", "model/head.safetensors"):
            broken, whole = tmp_path / f"broken{i}" / name, tmp_path / "whole" / name
            assert broken.read_bytes() == whole.read_bytes(), (i, name)


def test_the_run_that_is_killed_writes_its_journal_more_than_once() -> None:
    assert killed_run.ROWS > stages.CHUNK
