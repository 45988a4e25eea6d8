"""All settings of a run in one value; each part stands beside the code it steers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from candist.config import Section
from candist.encoders import DEFAULT_ENCODER
from candist.student.settings import StudentSettings
from candist.teacher.offline import OfflineSettings


class Settings(Section):
    """Everything but the task and the texts that decides what a run gives."""

    seed: int = Field(0, ge=0, description="Of all that is random.")
    encoder: str = Field(DEFAULT_ENCODER, description="A sentence-transformers model: a Hub id or a folder.")
    long: Literal["cut", "mean"] = Field(
        "cut", description="Texts longer than the encoder reads: cut, or mean of their pieces' embeddings."
    )
    max_chars: int = Field(100_000, ge=1, description="Longer texts are kept, marked too_long, and not labelled.")
    review_below: float = Field(0.5, ge=0, le=1, description="Labels with a smaller probability are for review.")
    teacher: OfflineSettings = OfflineSettings()
    student: StudentSettings = StudentSettings()
