"""A script for the kill test: runs in child processes that are killed from outside at random moments.

``python -m tests.pipeline.killed_run ROOT KILLS SEED``: ``ROOT/whole`` is an unbroken run; ``ROOT/broken0`` and so on
were killed up to five times each before they could end. Children are forked from this process, which has loaded
everything: a kill costs no import, and the time from 0 to the end of a run is all run.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

import candist
from candist import Settings, Task
from candist.config import override
from tests import words
from tests.conftest import COLOURS, colour_texts

ROWS = 2500


def work(out: Path) -> None:
    """The run: offline teacher, several journal writes, a training of some seconds."""
    torch.set_num_threads(1)
    task = Task.model_validate({"name": "colours", "instruction": "", "labels": COLOURS})
    settings = override(Settings(), ["student.min_steps=0", "student.epochs=6", "student.hidden=16"])
    candist.run(task, colour_texts(ROWS), out, settings=settings)


def child(out: Path) -> int:
    """Start the run in a fork; return its process id."""
    pid = os.fork()
    if pid == 0:
        try:
            work(out)
        finally:
            os._exit(0 if (out / "labels.csv").exists() else 1)
    return pid


def kill_some(root: Path, kills: int, seconds: float, draw: random.Random) -> int:
    """Kill until ``kills`` have met a living child; return how many folders that took."""
    folder, here = 0, 0
    while kills:
        os.environ["CANDIST_CACHE"] = str(root / f"cache{folder}")
        pid = child(root / f"broken{folder}")
        time.sleep(draw.uniform(0.01, seconds))
        os.kill(pid, signal.SIGKILL)
        met = os.WIFSIGNALED(os.waitpid(pid, 0)[1])
        kills, here = kills - met, here + met
        if not met or here == 5 or not kills:  # this one has ended, or may end now
            assert os.waitpid(child(root / f"broken{folder}"), 0)[1] == 0
            folder, here = folder + 1, 0
    return folder


def main() -> None:
    """Do as the module's docstring says; print the number of broken runs."""
    root, kills, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    words.install(words.plain_setattr())
    import candist.pipeline.stages  # the children must not import
    import candist.student.trainer  # noqa: F401

    os.environ["CANDIST_CACHE"] = str(root / "cache")
    start = time.monotonic()
    assert os.waitpid(child(root / "whole"), 0)[1] == 0
    print(kill_some(root, kills, time.monotonic() - start, random.Random(seed)))


if __name__ == "__main__":
    main()
