"""The training loop (Algorithm 1): one epoch = Eq. 2-4 on all rows, then steps on the targets of Eq. 1 and 5.

The loop knows a student as ``body`` (inputs → embeddings) and ``head`` (embeddings → logits). On a frozen encoder the
inputs are the embeddings themselves and the body passes them on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from candist.errors import DivergedError
from candist.student import refinery
from candist.student.settings import StudentSettings

Progress = Callable[[int, int], None]

#: The logit of a class that was never taught: its probability is 0, and its product with a target of 0 no NaN.
NEVER = -1e4


class Student(nn.Module):
    """A classifier: scaled embeddings (N, D) → logits (N, K).

    Parameters
    ----------
    width
        D of the embeddings.
    classes
        K.
    hidden
        Width of the hidden layer; 0 for a linear head.
    dropout
        On the input and the hidden layer.
    """

    mean: Tensor
    scale: Tensor
    taught: Tensor

    def __init__(self, width: int, classes: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        self.register_buffer("taught", torch.ones(classes, dtype=torch.bool))
        layers: list[nn.Module] = [nn.Dropout(dropout)]
        if hidden:
            layers += [nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(dropout)]
        self.shape = {"hidden": hidden, "dropout": dropout}
        self.head = nn.Sequential(*layers, nn.Linear(hidden or width, classes))

    def fit_scale(self, embeddings: Tensor) -> None:
        """Centre and scale each dimension as in these embeddings (N, D), so that one learning rate fits any encoder."""
        self.mean = embeddings.mean(dim=0)
        spread = embeddings.std(dim=0, correction=0)
        self.scale = torch.where(spread > 1e-6, spread, 1.0)

    def body(self, inputs: Tensor) -> Tensor:
        """Embeddings (N, D) as the head wants them."""
        return (inputs - self.mean) / self.scale

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits (N, K)."""
        return self.classify(self.body(inputs))

    def classify(self, embeddings: Tensor) -> Tensor:
        """Logits (N, K) of what `body` gives; a class that no candidate set named is never predicted."""
        logits: Tensor = self.head(embeddings).masked_fill(~self.taught, NEVER)
        return logits


def train(
    inputs: Tensor,
    mask: Tensor,
    settings: StudentSettings,
    *,
    seed: int,
    progress: Progress | None = None,
) -> Student:
    """Train a head on embeddings with distribution refinery.

    Parameters
    ----------
    inputs
        (N, D) float32 embeddings.
    mask
        (N, K) bool candidate sets, none empty.
    settings
        Everything else; the same settings and seed give the same weights.
    seed
        Of weights, batches, dropout and mixup.
    progress
        Called with (epochs done, epochs).

    Raises
    ------
    DivergedError
        When the loss is no longer finite; names the step and the learning rate.
    """
    generator = torch.Generator().manual_seed(seed)
    # Weights and dropout draw from the global generator: leave no trace there.
    with torch.random.fork_rng(devices=[]), one_thread():
        torch.manual_seed(seed)
        hidden = settings.hidden if len(inputs) >= settings.hidden_from else 0
        student = Student(inputs.shape[1], mask.shape[1], hidden, settings.dropout)
        student.fit_scale(inputs)
        student.taught = mask.any(dim=0)
        per_epoch = math.ceil(len(inputs) / settings.batch)
        epochs = max(settings.epochs, math.ceil(settings.min_steps / per_epoch))
        steps = epochs * per_epoch
        optimizer = torch.optim.AdamW(student.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        step = 0
        for epoch in range(epochs):
            part = refinery.everyone(len(inputs))
            if epoch >= settings.warmup * epochs:
                part = refinery.partition(predict(student, inputs), mask, settings.refinery)
            student.train()
            for rows in batches(len(inputs), settings.batch, generator):
                eta = settings.regularise * step / steps  # ramped linearly, App. A.2
                loss = batch_loss(student, inputs[rows], mask[rows], part.at(rows), settings, eta, generator)
                if not math.isfinite(loss.item()):
                    rate = schedule.get_last_lr()[0]
                    raise DivergedError(
                        f"the loss is {loss.item()} at step {step} with learning rate {rate:.2g}",
                        "a finite loss",
                        "lower student.lr",
                    )
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                step += 1
            if progress:
                progress(epoch + 1, epochs)
    return student.eval()


def batch_loss(
    student: Student,
    inputs: Tensor,
    mask: Tensor,
    part: refinery.Partition,
    settings: StudentSettings,
    eta: float,
    generator: torch.Generator,
) -> Tensor:
    """L = L_dr + η (L_cr^in + L_cr^out + L_mix) of one batch (App. A.2); the second view is a second dropout draw."""
    embeddings = student.body(inputs)  # (B, D)
    log_probs = student.classify(embeddings).log_softmax(dim=1)  # (B, K)
    probs = log_probs.detach().exp()
    targets, weights = refinery.refined_targets(probs, mask, part, settings.refinery)
    loss = refinery.cross_entropy(log_probs, targets, weights)
    if eta == 0:
        return loss
    view = student.classify(embeddings).log_softmax(dim=1)
    loss_in = refinery.consistency_in(view, targets, part.inside)
    loss_out = refinery.consistency_out(view, probs, ~part.inside)
    # Rows without a target stay out of the mixture: a target that sums to less than 1 would teach nothing.
    kept = weights.nonzero().squeeze(1)
    partner = torch.randperm(len(kept), generator=generator)
    omega = beta(settings.mixup, len(kept), generator)
    mixed, mixed_targets = refinery.mix(embeddings[kept], targets[kept], omega, partner)
    loss_mix = refinery.row_cross_entropy(student.classify(mixed).log_softmax(dim=1), mixed_targets).sum() / len(inputs)
    return loss + eta * (loss_in + loss_out + loss_mix)


@contextmanager
def one_thread() -> Iterator[None]:
    """A head's matrices are small: several threads wait for each other more than they work, most on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def batches(rows: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Row indices in random order, ``size`` at a time."""
    return iter(torch.randperm(rows, generator=generator).split(size))


def beta(concentration: float, count: int, generator: torch.Generator) -> Tensor:
    """Draws (count,) from Beta(a, a), by way of two gamma draws that take our generator."""
    gammas = torch._standard_gamma(torch.full((2, count), concentration), generator=generator)
    return gammas[0] / gammas.sum(dim=0)


@torch.no_grad()
def predict(student: Student, inputs: Tensor, batch: int = 4096) -> Tensor:
    """Probabilities (N, K) without dropout."""
    was_training = student.training
    student.eval()
    parts = [student(part).softmax(dim=1) for part in inputs.split(batch)]
    student.train(was_training)
    return torch.cat(parts) if parts else torch.empty(0, 0)
