"""Labels out and in: ``labels.csv`` for people, ``labels.parquet`` for programs, both with every row of the input."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any, TypeVar

from candist.data.files import write_whole
from candist.errors import MissingFileError, RunFolderError, SettingsError
from candist.records import Prediction

#: The columns of both files, in order. ``key`` stays inside: it is the id, but for repeated ids.
COLUMNS = (
    "id",
    "row",
    "label",
    "probability",
    "source",
    "review",
    "reason",
    "status",
    "candidates",
    "gold",
    "text",
)
CHUNK = 10_000

T = TypeVar("T")


def join_names(names: Sequence[str]) -> str:
    """Class names in one CSV cell: ``a|b``, or a JSON list where a name itself has a bar."""
    if any("|" in name for name in names):
        return json.dumps(list(names), ensure_ascii=False)
    return "|".join(names)


def csv_row(prediction: Prediction) -> list[str]:
    """One line of ``labels.csv``."""
    values = asdict(prediction)
    values["candidates"] = join_names(prediction.candidates)
    values["review"] = "yes" if prediction.review else "no"
    return ["" if values[column] is None else str(values[column]) for column in COLUMNS]


def write_csv(file: IO[bytes], predictions: Iterable[Prediction], *, header: bool = True) -> None:
    """Write predictions as CSV (UTF-8, RFC 4180 quoting, one line break a row as LF)."""
    text = io.TextIOWrapper(file, encoding="utf-8", errors="replace", newline="")
    writer = csv.writer(text, lineterminator="\n")
    if header:
        writer.writerow(COLUMNS)
    writer.writerows(csv_row(prediction) for prediction in predictions)
    text.flush()
    text.detach()


def schema() -> Any:
    """The Arrow schema of ``labels.parquet``."""
    import pyarrow as pa

    kinds: dict[str, Any] = {
        "row": pa.int64(),
        "probability": pa.float64(),
        "review": pa.bool_(),
        "candidates": pa.list_(pa.string()),
    }
    return pa.schema([("key", pa.string()), *((column, kinds.get(column, pa.string())) for column in COLUMNS)])


def write_parquet(file: IO[bytes], predictions: Iterable[Prediction]) -> None:
    """Write predictions as Parquet, a row group for each `CHUNK` rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kind = schema()
    with pq.ParquetWriter(file, kind) as writer:
        for part in batched(predictions, CHUNK):
            rows = [_plain(asdict(prediction)) for prediction in part]
            writer.write_table(pa.Table.from_pylist(rows, schema=kind))


def batched(values: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of at most ``size`` values (itertools has this from Python 3.12 on)."""
    source = iter(values)
    while part := list(islice(source, size)):
        yield part


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Arrow takes no lone surrogates: show what cannot be encoded as U+FFFD."""
    return {k: v.encode("utf-8", "replace").decode() if isinstance(v, str) else v for k, v in values.items()}


def write_labels(folder: Path, predictions: Sequence[Prediction]) -> None:
    """Write ``labels.csv`` and ``labels.parquet``."""
    write_whole(folder / "labels.csv", lambda file: write_csv(file, predictions))
    write_whole(folder / "labels.parquet", lambda file: write_parquet(file, predictions))


def read_labels(folder: Path) -> list[Prediction]:
    """Read ``labels.parquet`` of a run.

    Raises
    ------
    MissingFileError
        When the run has not got that far.
    RunFolderError
        When the file cannot be read.
    """
    path = folder / "labels.parquet"
    if not path.exists():
        raise MissingFileError(f"no labels in {str(folder)!r}", "a finished run", "give its 'candist run' again first")
    return list(iterate_labels(path))


def iterate_labels(path: Path) -> Iterator[Prediction]:
    """Stream predictions from a Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        for batch in pq.ParquetFile(path).iter_batches(CHUNK):
            for values in batch.to_pylist():
                yield Prediction(**{**values, "candidates": tuple(values["candidates"])})
    except (pa.ArrowException, OSError, TypeError) as error:
        raise RunFolderError(f"{str(path)!r} cannot be read: {error}", "labels as a run writes them", "") from None


@dataclass
class Counts:
    """How many predictions went through."""

    rows: int = 0
    labelled: int = 0
    review: int = 0

    def watch(self, predictions: Iterable[Prediction]) -> Iterator[Prediction]:
        """Hand predictions on and count them."""
        for prediction in predictions:
            self.rows += 1
            self.labelled += prediction.source != "none"
            self.review += prediction.review
            yield prediction


def write_stream(target: str, predictions: Iterable[Prediction]) -> Counts:
    """Write predictions as they come, in flat memory, to a .csv or .parquet file or to standard output (``-``).

    Raises
    ------
    SettingsError
        When the name has another suffix.
    """
    counts = Counts()
    watched = counts.watch(predictions)
    match Path(target).suffix.lower():
        case _ if target == "-":
            write_csv(sys.stdout.buffer, watched)
        case ".csv":
            write_whole(Path(target), lambda file: write_csv(file, watched))
        case ".parquet":
            write_whole(Path(target), lambda file: write_parquet(file, watched))
        case suffix:
            raise SettingsError(f"--out {target!r} ends in {suffix!r}", ".csv or .parquet", "rename it")
    return counts
