"""Classes of pictures from their codes by Bayes' rule, without training (PQ-VAE, section 5.3).

    independent   p(y) prod_l p(z_l | y)
    one step      p(y) prod_l p(z_l | z_parent(l), y)

Probabilities are frequencies in labelled pictures, each count made larger by 1 (Laplace).
"""

from collections.abc import Sequence

import numpy as np

from vqcodec.autoencoders.system import Level

SMOOTHING = 1.0


def sequence(codes: Sequence[np.ndarray]) -> np.ndarray:
    """Codes (B, C, h, w) of each level -> (B, L): levels, their columns, their cells."""
    return np.concatenate([level.reshape(len(level), -1) for level in codes], 1)


def alphabets(levels: Sequence[Level]) -> np.ndarray:
    """The number of codewords of each code of ``sequence``, (L,)."""
    return np.concatenate([np.repeat(level.sizes, np.prod(level.grid)) for level in levels])


def parents(levels: Sequence[Level]) -> np.ndarray:
    """For each code of ``sequence`` the one that it depends on in one step, -1 for none, (L,).

    That is the code before it in its cell; of a first column, the last column of the level above at
    the same place; without a level above that fits, the code to the left, or of a first cell in its
    row that above.
    """
    found: list[np.ndarray] = []
    above: np.ndarray | None = None  # indices of the last column of the level above
    first = 0
    for level in levels:
        h, w = level.grid
        index = first + np.arange(len(level.sizes) * h * w).reshape(-1, h, w)
        own = np.full_like(index, -1)
        own[1:] = index[:-1]
        if above is not None and h % above.shape[0] == 0 and w % above.shape[1] == 0:
            own[0] = above.repeat(h // above.shape[0], 0).repeat(w // above.shape[1], 1)
        else:
            own[0, 1:, 0] = index[0, :-1, 0]
            own[0, :, 1:] = index[0, :, :-1]
        found.append(own.ravel())
        above, first = index[-1], first + index.size
    return np.concatenate(found)


def accuracies(
    seen: np.ndarray,
    labels: np.ndarray,
    asked: np.ndarray,
    answers: np.ndarray,
    sizes: np.ndarray,
    parents: np.ndarray | None = None,
) -> np.ndarray:
    """The share of right answers from the first 1, 2, ..., L codes, (L,).

    seen (N, L) with labels (N,): codes to learn from; asked (n, L) with answers (n,). Labels are
    integers from 0 on. sizes (L,): codewords of each code. parents (L,): each before its child, -1
    for none; left out, codes are independent given the class.
    """
    classes = int(max(labels.max(), answers.max())) + 1
    frequency = np.bincount(labels, minlength=classes) + SMOOTHING
    score = np.tile(np.log(frequency), (len(asked), 1))  # log p(y, z_1..z_l) and a constant
    right = []
    for index, size in enumerate(sizes):
        parent = -1 if parents is None else int(parents[index])
        old, new, total = seen[:, index], asked[:, index], np.bincount(labels, minlength=classes)
        if parent >= 0:
            total = _class_counts(seen[:, parent], labels, asked[:, parent], classes)
            old, new = seen[:, parent] * size + old, asked[:, parent] * size + new
        hits = _class_counts(old, labels, new, classes)
        score += np.log((hits + SMOOTHING) / (total + SMOOTHING * size))
        right.append((score.argmax(1) == answers).mean())
    return np.array(right)


def _class_counts(
    seen: np.ndarray, labels: np.ndarray, asked: np.ndarray, classes: int
) -> np.ndarray:
    """How many pictures of each class have the value asked for, (n, classes).

    Only values that are asked for are counted: of pairs of codes there are many more.
    """
    values, place = np.unique(asked, return_inverse=True)
    index = np.searchsorted(values, seen).clip(max=len(values) - 1)
    known = values[index] == seen
    hits = index[known] * classes + labels[known]
    return np.bincount(hits, minlength=len(values) * classes).reshape(-1, classes)[place.ravel()]
