"""Slow NumPy reference of the CanDist equations, for checking an implementation.

Source of the equations: Xia et al., "Prompt Candidates, then Distill: A Teacher-Student
Framework for LLM-driven Data Annotation" (CanDist), ACL 2025; equation numbers are the
paper's.  Written from the project's METHOD.md alone, without sight of the implementation.
Everything is a plain Python loop over rows and classes, in float64, so that each line can
be read next to its equation.

Conventions
-----------
* ``N`` rows, ``K`` classes, classes numbered from 0 (the paper counts from 1).
* ``probs[i, j]`` is p_ij, the student's softmax; ``mask[i, j]`` is True iff j is in S_i.
* A row without a target has an all-zero target row and weight 0.
"""

import math
from typing import TypeAlias, TypedDict

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Bools: TypeAlias = NDArray[np.bool_]
Ints: TypeAlias = NDArray[np.int64]

LOG_FLOOR = 1e-12
"""Probabilities are clipped from below at this value, inside logarithms only."""


def _log(probability: float) -> float:
    """Return log(max(probability, 1e-12))."""
    return math.log(max(probability, LOG_FLOOR))


def _argmax(row: Floats) -> int:
    """Return the class of the largest entry of one row; of equals, the lowest class."""
    best = 0
    for j in range(1, len(row)):
        if float(row[j]) > float(row[best]):
            best = j
    return best


def _predicted(probs: Floats) -> Ints:
    """Return argmax_c p_ic of every row, over all K classes (used in Eq. 2, 3 and 4)."""
    n = len(probs)
    predicted = np.zeros(n, dtype=np.int64)
    for i in range(n):
        predicted[i] = _argmax(probs[i])
    return predicted


def uniform_targets(mask: Bools) -> Floats:
    """Eq. 1, q^0: q_ij = 1/|S_i| for j in S_i, 0 elsewhere.

    Candidate sets are non-empty by definition: an empty one raises ``ValueError``.
    """
    n, k = mask.shape
    targets = np.zeros((n, k), dtype=np.float64)
    for i in range(n):
        size = 0
        for j in range(k):
            if mask[i, j]:
                size += 1
        if size == 0:
            message = f"row {i}: the candidate set is empty"
            raise ValueError(message)
        for j in range(k):
            if mask[i, j]:
                targets[i, j] = 1.0 / size
    return targets


def renormalised_targets(probs: Floats, mask: Bools) -> Floats:
    """Eq. 1: q_ij = 1[j in S_i] p_ij / sum over k in S_i of p_ik.

    The paper is silent on a row whose candidate probabilities sum to 0: here it falls
    back to q^0, uniform over its set.
    """
    n, k = mask.shape
    uniform = uniform_targets(mask)
    targets = np.zeros((n, k), dtype=np.float64)
    for i in range(n):
        total = 0.0
        for j in range(k):
            if mask[i, j]:
                total += float(probs[i, j])
        for j in range(k):
            if total == 0.0:
                targets[i, j] = uniform[i, j]
            elif mask[i, j]:
                targets[i, j] = float(probs[i, j]) / total
    return targets


def cross_entropy(probs: Floats, targets: Floats) -> Floats:
    """CE(p_i, q_i) = -sum over j of q_ij log p_ij, per row (the l_i of Eq. 3, and Eq. 5).

    Terms with q_ij = 0 are 0; p_ij is clipped at 1e-12 within the log.
    """
    n, k = probs.shape
    losses = np.zeros(n, dtype=np.float64)
    for i in range(n):
        total = 0.0
        for j in range(k):
            q = float(targets[i, j])
            if q != 0.0:
                total -= q * _log(float(probs[i, j]))
        losses[i] = total
    return losses


def in_candidates(probs: Floats, mask: Bools) -> Bools:
    """Eq. 2: True where argmax_c p_ic is in S_i (the row is in D_in, else in D_out).

    Ties in the argmax go to the lowest class index.
    """
    n = len(probs)
    inside = np.zeros(n, dtype=np.bool_)
    for i in range(n):
        inside[i] = bool(mask[i, _argmax(probs[i])])
    return inside


def select_reliable(
    losses: Floats,
    predicted: Ints,
    in_set: Bools,
    delta: float,
    class_wise: bool = True,
) -> Bools:
    """Eq. 3: D_sl, the rows of D_in with small loss within their predicted class.

    D_in is grouped by *predicted* class; of each non-empty group of n_c rows the
    max(1, floor(delta * n_c + 0.5)) rows with the smallest loss are kept (the paper is
    silent on rounding).  Equal losses: the lower row index is kept first.
    ``class_wise=False`` makes all of D_in one group.
    """
    n = len(losses)
    groups: dict[int, list[tuple[float, int]]] = {}
    for i in range(n):
        if in_set[i]:
            group = int(predicted[i]) if class_wise else 0
            groups.setdefault(group, []).append((float(losses[i]), i))

    reliable = np.zeros(n, dtype=np.bool_)
    for members in groups.values():
        number_kept = max(1, math.floor(delta * len(members) + 0.5))
        by_loss_then_row = sorted(members)
        for _loss, i in by_loss_then_row[:number_kept]:
            reliable[i] = True
    return reliable


def select_confident(probs: Floats, in_set: Bools, tau: float) -> Bools:
    """Eq. 4: D_hc, the out-of-candidate rows with max_c p_ic > tau (strictly)."""
    n = len(probs)
    confident = np.zeros(n, dtype=np.bool_)
    for i in range(n):
        largest = float(probs[i, _argmax(probs[i])])
        confident[i] = (not in_set[i]) and largest > tau
    return confident


def sharpen(targets: Floats, gamma: float) -> Floats:
    """Eq. 5, sharpening: q_ij^(1/gamma) / sum over k of q_ik^(1/gamma).

    An all-zero row (no target) stays all zero.
    """
    n, k = targets.shape
    sharpened = np.zeros((n, k), dtype=np.float64)
    for i in range(n):
        total = 0.0
        for j in range(k):
            total += float(targets[i, j]) ** (1.0 / gamma)
        if total > 0.0:
            for j in range(k):
                sharpened[i, j] = float(targets[i, j]) ** (1.0 / gamma) / total
    return sharpened


def refined_targets(
    probs: Floats,
    mask: Bools,
    delta: float,
    tau: float,
    gamma: float,
    renormalise: bool = True,
    filter_out: bool = True,
    sharpen_reliable: bool = True,
    class_wise: bool = True,
    use_confident: bool = True,
) -> tuple[Floats, Floats]:
    """Eq. 1 to 5: one step of the distribution refinery on all rows (Algorithm 1).

    Returns the targets q-hat (N, K) and the weights (N,): 1 for a row with a target, 0
    for a row without (whose target row is all zero).

    The switches are those of Table 6:

    * ``renormalise=False`` (Ren.): the uniform q^0 in place of Eq. 1, also in the losses
      of Eq. 3.
    * ``filter_out=False`` (Out.): every row counts as in D_in, wherever its argmax is, so
      D_hc is empty.  Grouping in Eq. 3 is still by argmax over all K classes.
    * ``sharpen_reliable=False`` (Sha.): no sharpening.
    * ``class_wise=False`` (Cla.): D_sl is chosen from D_in as one group.
    * ``use_confident=False`` (Hig.): D_hc is empty.
    """
    n, k = probs.shape

    # Eq. 1
    base = renormalised_targets(probs, mask) if renormalise else uniform_targets(mask)

    # Eq. 2
    in_set = in_candidates(probs, mask)
    if not filter_out:
        for i in range(n):
            in_set[i] = True

    # Eq. 3
    losses = cross_entropy(probs, base)
    predicted = _predicted(probs)
    reliable = select_reliable(losses, predicted, in_set, delta, class_wise)

    # Eq. 4
    confident = select_confident(probs, in_set, tau)
    if not use_confident:
        for i in range(n):
            confident[i] = False

    # Eq. 5
    sharpened = sharpen(base, gamma)
    targets = np.zeros((n, k), dtype=np.float64)
    weights = np.zeros(n, dtype=np.float64)
    for i in range(n):
        if in_set[i]:
            weights[i] = 1.0
            for j in range(k):
                if reliable[i] and sharpen_reliable:
                    targets[i, j] = sharpened[i, j]
                else:
                    targets[i, j] = base[i, j]
        elif confident[i]:
            weights[i] = 1.0
            targets[i, int(predicted[i])] = 1.0
    return targets, weights


def refinery_loss(probs: Floats, targets: Floats, weights: Floats) -> float:
    """L_dr (after Eq. 5) = (1/n) sum of CE(p_i, q-hat_i) over the rows with a target.

    n counts all rows, those without a target too.
    """
    n = len(probs)
    losses = cross_entropy(probs, targets)
    total = 0.0
    for i in range(n):
        total += float(weights[i]) * float(losses[i])
    return total / n


def consistency_in(aug_probs: Floats, targets: Floats, in_weights: Floats) -> float:
    """Eq. 8, D_in: L_cr^in = (1/n) sum of CE(p_i^aug, q-hat_i) over rows with weight 1.

    ``in_weights`` marks D_in only (not D_hc); n counts all rows.
    """
    n = len(aug_probs)
    losses = cross_entropy(aug_probs, targets)
    total = 0.0
    for i in range(n):
        if in_weights[i] == 1:
            total += float(losses[i])
    return total / n


def consistency_out(aug_probs: Floats, probs: Floats, out_weights: Floats) -> float:
    """Eq. 8, D_out: L_cr^out = (1/n) sum of KL(p_i^aug || p_i) over rows with weight 1.

    KL(a || p) = sum over j of a_j (log a_j - log p_j), terms with a_j = 0 being 0 and
    both probabilities clipped at 1e-12 within the logs.  ``out_weights`` marks D_out;
    n counts all rows.
    """
    n, k = len(aug_probs), aug_probs.shape[1]
    total = 0.0
    for i in range(n):
        if out_weights[i] == 1:
            for j in range(k):
                a = float(aug_probs[i, j])
                if a != 0.0:
                    total += a * (_log(a) - _log(float(probs[i, j])))
    return total / n


def mix(
    features: Floats,
    targets: Floats,
    weights_beta: Floats,
    permutation: Ints,
) -> tuple[Floats, Floats]:
    """Eq. 9-10: omega_i x_i + (1 - omega_i) x_perm(i), and the same for the targets.

    ``weights_beta`` is (N,), one omega (a draw from Beta(4, 4)) a row, used as given;
    repeat one value N times for a single draw a batch.  ``permutation[i]`` is the row
    that row i is mixed with.
    """
    n, width = features.shape
    k = targets.shape[1]
    mixed_features = np.zeros((n, width), dtype=np.float64)
    mixed_targets = np.zeros((n, k), dtype=np.float64)
    for i in range(n):
        omega = float(weights_beta[i])
        partner = int(permutation[i])
        for d in range(width):
            own, other = float(features[i, d]), float(features[partner, d])
            mixed_features[i, d] = omega * own + (1.0 - omega) * other
        for j in range(k):
            own, other = float(targets[i, j]), float(targets[partner, j])
            mixed_targets[i, j] = omega * own + (1.0 - omega) * other
    return mixed_features, mixed_targets


class WorkedExample(TypedDict):
    """Inputs of METHOD.md's worked example and its results, to 3 decimals."""

    probs: Floats
    mask: Bools
    delta: float
    tau: float
    gamma: float
    in_candidates: Bools
    confident: Bools
    first_renormalised: Floats
    first_loss: float
    targets: Floats
    weights: Floats


# METHOD.md gives no delta; with these three rows D_in is row 0 alone, which is kept at
# any delta.  Classes 1, 2, 3 there are columns 0, 1, 2 here.
WORKED_EXAMPLE: WorkedExample = {
    "probs": np.array(
        [[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.005, 0.99, 0.005]],
        dtype=np.float64,
    ),
    "mask": np.array(
        [[True, True, False], [True, False, True], [True, False, False]],
        dtype=np.bool_,
    ),
    "delta": 0.5,
    "tau": 0.95,
    "gamma": 0.85,
    "in_candidates": np.array([True, False, False], dtype=np.bool_),
    "confident": np.array([False, False, True], dtype=np.bool_),
    "first_renormalised": np.array([0.667, 0.333, 0.0], dtype=np.float64),
    "first_loss": 0.742,
    "targets": np.array(
        [[0.693, 0.307, 0.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0]],
        dtype=np.float64,
    ),
    "weights": np.array([1.0, 0.0, 1.0], dtype=np.float64),
}
