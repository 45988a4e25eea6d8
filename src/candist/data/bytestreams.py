"""Bytes of files and standard input: opened, unpacked, looked at, and refused where they are no text."""

from __future__ import annotations

import gzip
import io
import os
import zlib
from pathlib import Path
from typing import Any

from candist.errors import DataError, MissingFileError, did_you_mean

#: How many bytes are looked at to tell what a file is.
HEAD = 1 << 16

#: How files start that are not text, what they are, and what to do about it.
MAGIC = (
    (b"PK\x03\x04", "an Excel workbook or other zip archive", "save it as CSV"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel or Word file", "save it as CSV"),
    (b"%PDF-", "a PDF file", "save its texts as CSV"),
    (b"\x1f\x8b", "gzip-compressed", "add .gz to its name, or unpack it"),
    (b"\x28\xb5\x2f\xfd", "zstd-compressed", "unpack it"),
    (b"\xfd7zXZ\x00", "xz-compressed", "unpack it"),
    (b"SQLite format 3\x00", "an SQLite database", "export its table as CSV"),
    (b"PAR1", "a Parquet file", "name its format: --format parquet"),
    (b"ARROW1", "an Arrow (Feather) file", "save it as Parquet"),
    (b"\xff\xfe", "UTF-16 text", "save it as UTF-8"),
    (b"\xfe\xff", "UTF-16 text", "save it as UTF-8"),
)
BOM = b"\xef\xbb\xbf"


class Bytes(io.RawIOBase):
    """An input's bytes without their byte-order mark. ``head`` shows the first ones before they are read.

    Reading errors come as `DataError`. A table may be dropped before its end, or before its first row: then the file,
    open by ``descriptor``, is closed with this object. Python's own file objects would warn, so they do not own it.
    """

    def __init__(self, inner: Any, name: str, descriptor: int | None) -> None:
        self._inner, self._name, self._descriptor = inner, name, descriptor
        head = b""
        while len(head) < HEAD and (chunk := self._read(HEAD - len(head))):
            head += chunk
        self.head = self._ahead = head.removeprefix(BOM)

    def readable(self) -> bool:
        """Yes: `io` asks."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer; 0 at the end."""
        chunk = self._ahead[: len(buffer)] or self._read(len(buffer))
        self._ahead = self._ahead[len(chunk) :]
        buffer[: len(chunk)] = chunk
        return len(chunk)

    def close(self) -> None:
        """Close the file, where this object opened it."""
        if self._descriptor is not None:
            self._inner.close()
            os.close(self._descriptor)
            self._descriptor = None
        super().close()

    def _read(self, size: int) -> bytes:
        try:
            return bytes(self._inner.read1(size))
        except EOFError:
            raise DataError(f"{self._name} is cut short", "a complete gzip file", "copy or download it again") from None
        except (gzip.BadGzipFile, zlib.error):
            raise DataError(
                f"{self._name} is damaged or no gzip file", "gzip-compressed text", "pack it again, or drop .gz"
            ) from None
        except OSError as error:
            raise DataError(f"{self._name}: {error.strerror or error}", "a readable file", "check the disk") from None


def open_bytes(path: Path) -> Bytes:
    """Open a file, unpacking ``.gz``, with our wording of why it cannot be opened."""
    if os.path.isdir(path):
        raise DataError(f"{str(path)!r} is a folder", "a file of texts", "name a file in it")
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a path with a NUL
        raise MissingFileError(f"no file {str(path)!r}", "a file of texts", _near_file(path)) from None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}", "a readable file", "check its permissions") from None
    file: Any = open(descriptor, "rb", closefd=False)  # noqa: SIM115
    if path.name.casefold().endswith(".gz"):
        file = gzip.GzipFile(fileobj=file)
    return Bytes(file, str(path), descriptor)


def _near_file(path: Path) -> str:
    """``did you mean`` a file of the same folder, or what else to do."""
    try:
        siblings = sorted(os.listdir(path.parent))
    except (OSError, ValueError):
        siblings = []
    hint = did_you_mean(path.name, siblings)
    return hint if hint.startswith("did") else "check the path"


def check_head(head: bytes, name: str) -> None:
    """Refuse what is empty or no text, by its first bytes (DataError)."""
    if len(head) < HEAD and not head.strip():
        raise DataError(f"{name} is empty", "at least one text", "check that it was saved")
    for start, what, do in MAGIC:
        if head.startswith(start):
            raise DataError(f"{name} is {what}", "UTF-8 text", do)
    # A NUL in a later row spoils that row alone; in the first line, or many of them, they mean that this is no text.
    if b"\0" in head.split(b"\n", 1)[0] or head.count(b"\0") * 10 > len(head):
        raise DataError(f"{name} is a binary file", "UTF-8 text", "save it as CSV, JSONL or Parquet")
