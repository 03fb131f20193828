"""Metrics of structure by the package ``piq``: a panel of judges beside those that codecs learn by.

All functions take x_hat, x (B, 3, H, W), 0 to 255, and give (B,); 1 where they are equal, and less
the more they differ. ``pip install piq``.
"""

import sys
from collections.abc import Callable
from importlib.util import find_spec, module_from_spec
from typing import Any

from torch import Tensor

from vqcodec.metrics.blur import full_precision, in_floats


def vif(x_hat: Tensor, x: Tensor) -> Tensor:
    """Visual information fidelity of luma in the pixel domain: Sheikh and Bovik 2006."""
    return _score("vif", "vif_p", x_hat, x, side=41)


def fsim(x_hat: Tensor, x: Tensor) -> Tensor:
    """Feature similarity with colour, FSIMc: Zhang et al. 2011."""
    return _score("fsim", "fsim", x_hat, x)


def vsi(x_hat: Tensor, x: Tensor) -> Tensor:
    """Visual saliency-induced index: Zhang, Shen and Li 2014."""
    return _score("vsi", "vsi", x_hat, x)


def gmsd(x_hat: Tensor, x: Tensor) -> Tensor:
    """1 minus the gradient magnitude similarity deviation of luma: Xue et al. 2014."""
    return 1 - _score("gmsd", "gmsd", x_hat, x)


def haarpsi(x_hat: Tensor, x: Tensor) -> Tensor:
    """Haar wavelet perceptual similarity index: Reisenhofer et al. 2018."""
    return _score("haarpsi", "haarpsi", x_hat, x, side=16)


def mdsi(x_hat: Tensor, x: Tensor) -> Tensor:
    """1 minus the mean deviation similarity index, with colour: Nafchi et al. 2016."""
    return 1 - _score("mdsi", "mdsi", x_hat, x)


def _score(module: str, function: str, x_hat: Tensor, x: Tensor, side: int = 8) -> Tensor:
    a, b = (planes.clamp(0, 255) for planes in in_floats(x_hat, x, side))  # piq refuses others
    with full_precision(a.device):
        score: Tensor = _from_piq(module, function)(a, b, data_range=255.0, reduction="none")
    return score


def _from_piq(module: str, function: str) -> Callable[..., Any]:
    """A function of a module of piq, without what piq imports for its other metrics: torchvision,
    which has to match the installed torch exactly and is not needed here."""
    from importlib import import_module

    if "piq" not in sys.modules:
        spec = find_spec("piq")
        if spec is None:
            raise ImportError("the package piq is missing")
        sys.modules["piq"] = module_from_spec(spec)  # the folder of its modules, nothing executed
        try:
            found = import_module(f"piq.{module}")
        finally:
            del sys.modules["piq"]  # whoever imports piq gets all of it
    else:
        found = import_module(f"piq.{module}")
    return getattr(found, function)  # type: ignore[no-any-return]
