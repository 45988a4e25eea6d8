"""The student's settings, with the paper's values where the paper gives them (App. A.3). No torch in here."""

from __future__ import annotations

from pydantic import Field

from candist.config import Section


class RefinerySettings(Section):
    """Distribution refinery (§3.3): its three numbers and the five switches of Table 6."""

    delta: float = Field(0.5, gt=0, le=1, description="δ, Eq. 3: share of each predicted class kept as reliable.")
    gamma: float = Field(0.85, gt=0, le=1, description="γ, Eq. 5: temperature that sharpens reliable rows' targets.")
    tau: float = Field(
        0.95, gt=0, le=1, description="τ, Eq. 4: out-of-candidate rows surer than this come back; 1 = none."
    )
    renormalise: bool = Field(True, description="Ren., Eq. 1: targets follow the student within the candidates.")
    filter_out: bool = Field(True, description="Out., Eq. 2: rows predicted outside their candidates leave the loss.")
    sharpen: bool = Field(True, description="Sha., Eq. 5: targets of reliable rows are sharpened.")
    class_wise: bool = Field(True, description="Cla., Eq. 3: reliable rows are chosen within each predicted class.")
    confident: bool = Field(True, description="Hig., Eq. 4: confident out-of-candidate rows return with own label.")


class StudentSettings(Section):
    """The head on a frozen encoder and its training loop."""

    epochs: int = Field(25, ge=1, le=10_000, description="Passes over the rows, at least.")
    min_steps: int = Field(1000, ge=0, description="More passes where there are few rows, up to this many steps.")
    warmup: float = Field(0.2, ge=0, le=1, description="Share of the passes that train on Eq. 1 alone, all rows.")
    batch: int = Field(64, ge=1, description="Rows a step.")
    lr: float = Field(1e-3, gt=0, le=1, description="Peak learning rate of AdamW; it falls to 0 along a cosine.")
    weight_decay: float = Field(0.01, ge=0, description="Weight decay of AdamW.")
    hidden: int = Field(512, ge=0, description="Width of the head's hidden layer; 0 = a linear head.")
    hidden_from: int = Field(2000, ge=0, description="With fewer rows the head is linear.")
    dropout: float = Field(0.3, ge=0, lt=1, description="Dropout on the head's input and hidden layer.")
    regularise: float = Field(1.0, ge=0, description="η, App. A.2: final weight of consistency and mixup; 0 = none.")
    mixup: float = Field(4.0, gt=0, description="ω ~ Beta(a, a) of the embedding mixup (Eq. 9-10).")
    refinery: RefinerySettings = RefinerySettings()
