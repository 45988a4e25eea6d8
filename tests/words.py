"""A stand-in encoder for tests: hashed bags of words, exact, fast, and without weights."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from candist import encoders

WIDTH = 64
LIMIT = 32


class WordTokenizer:
    """Each word is a token."""

    def num_special_tokens_to_add(self) -> int:
        return 2

    def __call__(self, text: str, **options: Any) -> dict[str, Any]:
        offsets, start = [], 0
        for word in text.split(" "):
            offsets.append((start, start + len(word)))
            start += len(word) + 1
        return {"offset_mapping": offsets}


class WordModel:
    """As much of a SentenceTransformer as `Encoder` uses."""

    tokenizer = WordTokenizer()
    max_seq_length = LIMIT

    def __init__(self) -> None:
        self.calls = 0

    def get_embedding_dimension(self) -> int:
        return WIDTH

    def encode(self, texts: Sequence[str], **options: Any) -> np.ndarray[Any, Any]:
        self.calls += 1
        found = np.zeros((len(texts), WIDTH), dtype=np.float32)
        for i, text in enumerate(texts):
            for word in text.lower().split()[: LIMIT - 2]:
                digest = hashlib.sha256(word.strip(".,:;!?").encode()).digest()
                found[i, digest[0] % WIDTH] += 1 if digest[1] % 2 else -1
        found /= np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9)
        return found


def encoder() -> encoders.Encoder:
    return encoders.Encoder("words", "f" * 64, WordModel())


def install(place: Any) -> None:
    """Let `encoders` find the stand-in under every name; ``place`` is a monkeypatch or anything with its setattr."""
    place.setattr(encoders, "locate", lambda name: Path("words"))
    place.setattr(encoders, "fingerprint", lambda folder: "f" * 64)
    place.setattr(encoders, "load", lambda name: encoder())


def plain_setattr() -> SimpleNamespace:
    """For scripts of their own, where there is no monkeypatch."""
    return SimpleNamespace(setattr=setattr)
