"""Entropies of codes and what they share, estimated from samples, in nats.

The plug-in estimate of an entropy from n samples is too small, by about (m - 1) / 2n nats where m
values occur. That is added (Miller and Madow 1955), to joint entropies too. Of two columns with
more pairs of codes than samples most pairs never occur, so that the correction is too small and
mutual information too large; ``shuffled`` shows by how much: it keeps each column's codes and
breaks the pairs, so what is left of the information is bias.
"""

import math

import numpy as np


def bits(nats: float) -> float:
    return nats / math.log(2)


def entropy(counts: np.ndarray) -> float:
    """How often each value occurred, (K,) -> nats, with the correction of Miller and Madow.

    0 where nothing was counted.
    """
    seen = counts[counts > 0]
    if not len(seen):
        return 0.0
    total = int(seen.sum())
    share = seen / total
    return float(-(share * np.log(share)).sum()) + (len(seen) - 1) / (2 * total)


def entropy_of(values: np.ndarray) -> float:
    """values (n,) integers -> nats."""
    return entropy(np.unique(values, return_counts=True)[1])


def pairs(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Codes a, b (n,) -> an integer for each pair, the same for the same pair, (n,) int64."""
    return a.astype(np.int64) * (int(b.max(initial=0)) + 1) + b


def mutual_information(a: np.ndarray, b: np.ndarray) -> float:
    """Codes a, b (n,) -> H(a) + H(b) - H(a, b), nats. May be below 0 by chance."""
    return entropy_of(a) + entropy_of(b) - entropy_of(pairs(a, b))


def conditional_entropy(b: np.ndarray, a: np.ndarray) -> float:
    """Codes b, a (n,) -> H(b | a) = H(a, b) - H(a), nats."""
    return entropy_of(pairs(a, b)) - entropy_of(a)


def dependence(columns: np.ndarray) -> np.ndarray:
    """Codes (n, C) -> (C, C) nats: mutual information of two columns; the diagonal is entropy."""
    codes = columns.T
    own = np.array([entropy_of(column) for column in codes])
    matrix = np.diag(own)
    for i, j in zip(*np.triu_indices(len(codes), 1), strict=True):
        joint = entropy_of(pairs(codes[i], codes[j]))
        matrix[i, j] = matrix[j, i] = own[i] + own[j] - joint
    return matrix


def shuffled(columns: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Codes (n, C) -> the same with each column in an order of its own: nothing is shared."""
    return rng.permuted(columns, axis=0)


def between(matrix: np.ndarray) -> float:
    """The mean of ``dependence`` beside the diagonal; of at least two columns."""
    return float(matrix[~np.eye(len(matrix), dtype=bool)].mean())


def position_entropy(codes: np.ndarray) -> np.ndarray:
    """codes (B, C, h, w) -> nats of a code at each place, the mean over columns, (h, w)."""
    squares, columns, h, w = codes.shape
    each = [entropy_of(values) for values in codes.reshape(squares, -1).T]
    return np.array(each).reshape(columns, h, w).mean(0)


def sequences(codes: np.ndarray) -> np.ndarray:
    """codes (B, C, h, w) -> the columns of each place, (B * h * w, C)."""
    return np.moveaxis(codes, 1, -1).reshape(-1, codes.shape[1])
