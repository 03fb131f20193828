"""The tensors of a weights file in numpy, each asked for by its name and shape."""

from collections.abc import Mapping

import numpy as np

from vqcodec.arithmetic import WEIGHT_SCALE


class Weights:
    """Those whose names begin with a prefix."""

    def __init__(self, tensors: Mapping[str, np.ndarray], prefix: str = "") -> None:
        self._tensors, self._prefix = tensors, prefix

    def within(self, name: str) -> "Weights":
        """Those of a part of the network."""
        return Weights(self._tensors, f"{self._prefix}{name}.")

    def __call__(self, name: str, *shape: int) -> np.ndarray:
        """In float32: int16 are multiples of 2**-12. Raises KeyError, ValueError."""
        value = self._tensors[self._prefix + name]
        if value.shape != shape:
            raise ValueError("they are not those of this version's network")
        x = value.astype(np.float32)
        if not np.isfinite(x).all():
            raise ValueError("a weight is not a number")
        return x / np.float32(WEIGHT_SCALE) if value.dtype == np.int16 else x

    def matrix(self, name: str, inputs: int, outputs: int) -> tuple[np.ndarray, np.ndarray]:
        """Of a 1x1 convolution: weight (outputs, inputs) and bias (outputs,)."""
        weight = self(f"{name}.weight", outputs, inputs, 1, 1)
        return weight[:, :, 0, 0], self(f"{name}.bias", outputs)

    def kernel(self, name: str, inputs: int, outputs: int) -> tuple[np.ndarray, np.ndarray]:
        """Of a 3x3 convolution: weight (outputs, 9 * inputs), tap-major, and bias (outputs,)."""
        weight = self(f"{name}.weight", outputs, inputs, 3, 3).transpose(0, 2, 3, 1)
        return weight.reshape(outputs, -1), self(f"{name}.bias", outputs)
