"""``run.toml`` of a run: what it is (its identity), and how everything in it was got."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from candist.data.files import write_text
from candist.data.runfolder import RunFolder, read_record, write_record
from candist.pipeline.settings import Settings
from candist.records import Candidates, Text, to_line
from candist.task import Task
from candist.teacher import offline

TRACKED = ("candist", "torch", "sentence-transformers", "transformers", "numpy", "pyarrow")


def identify(
    task: Task, texts: Sequence[Text], answers: Sequence[Candidates] | None, settings: Settings, encoder: str
) -> dict[str, str]:
    """Digests of all that makes a run what it is, by the name that an error message shows."""
    return {
        "task": digest([task.model_dump_json()]),
        "texts": digest(to_line(text) for text in texts),
        "answers": digest(to_line(answer) for answer in answers) if answers is not None else "offline",
        "settings": digest([settings.model_dump_json()]),
        "encoder": encoder,
    }


def digest(lines: Iterable[str]) -> str:
    """SHA-256 of lines."""
    total = hashlib.sha256()
    for line in lines:
        total.update(line.encode("utf-8", "surrogatepass") + b"\n")
    return total.hexdigest()


def begin(
    folder: RunFolder,
    identity: dict[str, str],
    task: Task,
    texts: Sequence[Text],
    answers: Sequence[Candidates] | None,
    settings: Settings,
    name: str,
    notes: Sequence[str],
) -> dict[str, Any]:
    """Write ``run.toml`` of a new run, or read that of a stopped one."""
    if folder.state != "new":
        return read_record(folder.path)
    sources = list(dict.fromkeys(answer.source for answer in answers)) if answers is not None else [offline.SOURCE]
    record: dict[str, Any] = {
        "run": {"status": "running", "created": now()},
        "identity": identity,
        "texts": {"name": name, "rows": len(texts), "notes": list(notes)},
        "teacher": {"kind": "answers on hand" if answers is not None else "offline", "sources": sources},
        "encoder": {"name": settings.encoder},
        "settings": settings.model_dump(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in TRACKED}},
        "stages": {},
    }
    write_text(folder.file("task.json"), task.model_dump_json(indent=2) + "\n")
    write_record(folder.path, record)
    return record


def now() -> str:
    """The time in UTC, to the second, in ISO form."""
    return datetime.now(UTC).isoformat(timespec="seconds")
