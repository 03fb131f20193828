"""``ladder.synthesis`` in numpy: a latent to pixels, in float32.

As there, what does not depend on the picture is folded into the weights, and channels are last.
A 3x3 convolution is the product of its patches with a matrix, in bands that stay in cache.
"""

from dataclasses import dataclass

import numpy as np

from vqcodec.autoencoders.ladder.config import LadderConfig
from vqcodec.light.weights import Weights

RESIDUAL_UNIT = np.float32(32)
BAND_PATCHES = 768  # in work at once


class Synthesis:
    """The network at all rate points."""

    def __init__(self, config: LadderConfig, weights: Weights, std: np.ndarray) -> None:
        """std (C,) float32. Raises KeyError and ValueError for weights that are not its own."""
        coarse, fine = config.coarse, config.fine
        self._std = std
        self._enter = _matrix(weights, "enter", config.channels, coarse)
        self._coarse = _Block(weights.within("coarse"), coarse, config.conditions)
        up, bias = _matrix(weights, "up", coarse, 4 * fine)
        # Columns in the order (row, column, channel) of a cell's parts
        self._up = _last(up, fine, 2, 2), _last(bias, fine, 2, 2)
        self._fine = [_Block(weights.within(f"fine.{i}"), fine, config.conditions) for i in (0, 1)]
        leave, bias = _matrix(weights, "leave", fine, 192)
        # A half more, because the conversion to integers cuts off
        bias = _last(bias, 3, 8, 8) * RESIDUAL_UNIT + np.float32(127.5 + 0.5)
        self._leave = _last(leave, 3, 8, 8) * RESIDUAL_UNIT, np.tile(bias, 4)
        linear = weights("linear", config.channels, 768).reshape(-1, 3, 2, 8, 2, 8)
        self._linear = linear.transpose(0, 2, 4, 3, 5, 1).reshape(-1, 768)

    def at(self, steps: np.ndarray, condition: tuple[float, ...]) -> "FoldedSynthesis":
        """Of one rate point. steps (c,) float32: of the first channels, those that are coded."""
        n = len(steps)
        enter, bias = self._enter
        coarse, *fine = (block.at(condition) for block in (self._coarse, *self._fine))
        return FoldedSynthesis(
            enter=(enter[:n] * (steps / self._std[:n])[:, None], bias),
            coarse=coarse,
            up=self._up,
            fine=fine,
            leave=self._leave,
            linear=self._linear[:n] * steps[:, None],
        )

    def draft(self, y: np.ndarray, steps: np.ndarray, scale: int) -> np.ndarray:
        """y (h, w, c) in steps -> the means of scale x scale pixels of the linear part alone.

        These are (16h / scale, 16w / scale, 3) uint8.
        """
        (h, w, n), side = y.shape, 16 // scale
        basis = self._linear[:n].reshape(n, 2, 2, 8, 8, 3).swapaxes(2, 3)
        means = basis.reshape(n, side, scale, side, scale, 3).mean((2, 4)).reshape(n, -1)
        pixels = y.reshape(h * w, n) @ (means * steps[:, None]) + np.float32(127.5 + 0.5)
        shown: np.ndarray = pixels.clip(0, 255).astype(np.uint8)
        return shown.reshape(h, w, side, side, 3).swapaxes(1, 2).reshape(h * side, w * side, 3)


Affine = tuple[np.ndarray, np.ndarray]  # a matrix (in, out), and what is added (out,)


@dataclass(frozen=True)
class FoldedSynthesis:
    """The network at one rate point."""

    enter: Affine
    coarse: "FoldedBlock"
    up: Affine
    fine: list["FoldedBlock"]
    leave: Affine
    linear: np.ndarray

    def __call__(self, y: np.ndarray) -> np.ndarray:
        """y (h, w, channels) float32, in steps -> pixels (16h, 16w, 3) uint8."""
        h, w, _ = y.shape
        rows = y.reshape(h * w, -1)
        x = _affine(rows, self.enter).reshape(h, w, -1)
        self.coarse.add_to(x)
        x = _shuffled(_affine(x.reshape(h * w, -1), self.up), h, w)
        for block in self.fine:
            block.add_to(x)
        leave, bias = self.leave
        pixels = _shuffled(_affine(rows, (self.linear, bias)), h, w).reshape(4 * h * w, 192)
        pixels += x.reshape(4 * h * w, -1) @ leave
        shown = pixels.clip(0, 255, out=pixels).astype(np.uint8)
        return shown.reshape(2 * h, 2 * w, 8, 24).swapaxes(1, 2).reshape(16 * h, 16 * w, 3)


class _Block:
    def __init__(self, weights: Weights, channels: int, conditions: int) -> None:
        self._first = weights.kernel("first", channels, channels)
        self._film = weights("film.linear.weight", 2 * channels, conditions)
        weight, bias = weights.kernel("second", channels, channels)
        self._second = np.ascontiguousarray(weight.T), bias

    def at(self, condition: tuple[float, ...]) -> "FoldedBlock":
        scale, shift = np.split(self._film @ np.array(condition, np.float32), 2)
        weight, bias = self._first
        first = weight * (1 + scale)[:, None], bias * (1 + scale) + shift
        return FoldedBlock((np.ascontiguousarray(first[0].T), first[1]), self._second)


@dataclass(frozen=True)
class FoldedBlock:
    """``transform.ResidualBlock`` at one rate point."""

    first: Affine
    second: Affine

    def add_to(self, x: np.ndarray) -> None:
        """x (h, w, C), in place."""
        y = _conv3x3(x, self.first)
        np.maximum(y, y * np.float32(1 / 8), out=y)
        x += _conv3x3(y, self.second)


def _conv3x3(grid: np.ndarray, kernel: Affine) -> np.ndarray:
    """grid (h, w, in), zero beyond it -> (h, w, out)."""
    h, w, channels = grid.shape
    padded = np.zeros((h + 2, w + 2, channels), np.float32)
    padded[1:-1, 1:-1] = grid
    out = np.empty((h, w, len(kernel[1])), np.float32)
    n_rows = max(1, BAND_PATCHES // w)
    patches = np.empty((n_rows, w, 3, 3 * channels), np.float32)
    # Three neighbours in a row are contiguous.
    triples = np.lib.stride_tricks.as_strided(
        padded, (h + 2, w, 3 * channels), (*padded.strides[:2], padded.itemsize)
    )
    for top in range(0, h, n_rows):
        band = out[top : top + n_rows]
        part = patches[: len(band)]
        for i in range(3):
            part[:, :, i] = triples[top + i : top + i + len(band)]
        rows = part.reshape(len(band) * w, -1)
        np.matmul(rows, kernel[0], out=band.reshape(len(rows), -1))
        band += kernel[1]
    return out


def _affine(rows: np.ndarray, map: Affine) -> np.ndarray:
    x: np.ndarray = rows @ map[0]
    x += map[1]
    return x


def _matrix(weights: Weights, name: str, inputs: int, outputs: int) -> Affine:
    weight, bias = weights.matrix(name, inputs, outputs)
    return np.ascontiguousarray(weight.T), bias


def _shuffled(rows: np.ndarray, h: int, w: int) -> np.ndarray:
    """rows (h * w, 4 * C), a cell's parts one after the other -> (2h, 2w, C)."""
    return rows.reshape(h, w, 2, 2, -1).swapaxes(1, 2).reshape(2 * h, 2 * w, -1)


def _last(x: np.ndarray, channels: int, *grid: int) -> np.ndarray:
    """The columns (..., channels * rows * columns) in the order (row, column, channel)."""
    parts = x.reshape(*x.shape[:-1], channels, *grid)
    return np.moveaxis(parts, -3, -1).reshape(x.shape)
