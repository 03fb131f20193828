"""SSIMULACRA 2.1, differentiable: a score of how a picture looks, 100 where it is the original.

Sneyers, Cloudinary 2023; 30 is low quality, 50 medium, 70 high, 90 hardly to be told from the
original side by side. As the tool of libjxl 0.11 computes it, to within 0.1 up to 80. Above, the
tool's recursive blur in float32 sees differences where there are none: beside this in float32 or
float64, which agree to 0.005, it is 0.02 to 0.24 lower at 85 and 0.1 to 0.7 at 91.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vqcodec.metrics.blur import blur, check_pair, full_precision

# The smallest side, in pixels, for which libjxl's tool has all scales. Below it leaves scales out,
# the weights slip, and its score jumps; ``scores`` always has them all.
SIDE = 113
_STRIP = 256  # rows
# Of channels X, Y and B, by scale from the finest: structure, artifacts, lost detail in norm 1 and
# the same in norm 4. Fitted by the author of the metric to 22 thousand mean opinions.
# fmt: off
_WEIGHTS = (
    (
        (0, 0.0007376606707406586, 0, 0, 0.0007793481682867309, 0),
        (0, 0.0004371155730107379, 0,
         1.1041726426657346, 0.00066284834129271, 0.00015231632783718752),
        (0, 0.0016406437456599754, 0, 1.8422455520539298, 11.441172603757666, 0),
        (0.0007989109436015163, 0.000176816438078653, 0, 1.8787594979546387, 10.94906990605142, 0),
        (0.0007289346991508072, 0.9677937080626833, 0,
         0.00014003424285435884, 0.9981766977854967, 0.00031949755934435053),
        (0.0004550992113792063, 0, 0, 0.0013648766163243398, 0, 0),
    ),
    (
        (0, 0, 0, 7.466890328078848, 0, 17.445833984131262),
        (0.0006235601634041466, 0, 0, 6.683678146179332, 0.00037724407979611296, 1.027889937768264),
        (225.20515300849274, 0, 0, 19.213238186143016, 0.0011401524586618361, 0.001237755635509985),
        (176.39317598450694, 0, 0, 24.43300999870476, 0.28520802612117757, 0.0004485436923833408),
        (0, 0, 0, 34.77906344483772, 44.835625328877896, 0),
        (0, 0, 0, 0, 0, 0),
    ),
    (
        (0, 0.0008680556573291698, 0, 0, 0, 0),
        (0, 0.0005313191874358747, 0, 0.00016533814161379112, 0, 0),
        (0, 0, 0, 0.0004179171803251336, 0.0017290828234722833, 0),
        (0.0020827005846636437, 0, 0, 8.826982764996862, 23.19243343998926, 0),
        (95.1080498811086, 0.9863978034400682, 0.9834382792465353,
         0.0012286405048278493, 171.2667255897307, 0.9807858872435379),
        (0, 0, 0, 0.0005130064588990679, 0, 0.00010854057858411537),
    ),
)
# fmt: on
# Linear R, G and B to the cones' answers L, M and S, and their bias (libjxl, opsin_params.h).
_CONES = (
    (0.3, 0.622, 0.078),
    (0.23, 0.692, 0.078),
    (0.24342268924547819, 0.20476744424496821, 0.5518098665095536),
)
_BIAS = 0.0037930732552754493


def _taps(sigma: float, radius: int) -> tuple[float, ...]:
    """libjxl's stand-in for a Gaussian: a sum of three cosines that ends at the radius.

    Charalampidis, Recursive implementation of the Gaussian filter using truncated cosine
    functions, 2016, as in lib/jxl/gauss_blur.cc. Its numbers are the equations' there.
    """
    sign = np.array([1, -1, 1])
    omega = np.array([1, 3, 5]) * math.pi / (2 * radius)
    p = sign / np.tan(omega / 2)  # (37)
    r = sign * p**2 / np.sin(omega)  # (44)
    rho = np.exp(-(sigma**2) * omega**2 / 2) / radius  # (50)
    d13, d35, d51 = np.cross(p, r)[[2, 0, 1]]  # (52)
    zeta = np.array([d35 / d13, d51 / d13, 1])
    moments = np.array([1, radius**2 - sigma**2, zeta @ rho])
    beta = np.linalg.solve(np.array([p, r, zeta]), moments)  # (53)
    taps = beta @ np.cos(np.outer(omega, np.arange(-radius, radius + 1)))
    return tuple(taps.tolist())


_RADIUS = 5
_TAPS = _taps(1.5, _RADIUS)


def scores(x_hat: Tensor, x: Tensor) -> Tensor:
    """Of each picture, (B,). x_hat, the picture to be judged, and x, its original: (B, 3, H, W),
    sRGB from 0 to 255; what leaves that range counts as its end. 16-bit floats are measured in
    float32. Where no gradient is asked for, memory for a strip of rows is enough.

    Raises ValueError for other shapes.
    """
    check_pair(x_hat, x)
    whole = torch.is_grad_enabled() and x_hat.requires_grad
    a, b, light = x, x_hat, _light
    rows = x.shape[2] if whole else _STRIP
    total = torch.zeros(x.shape[0], dtype=torch.float32, device=x.device)
    with full_precision(x.device):
        for scale in range(6):
            part, a, b = _scale(a, b, rows, light, [weights[scale] for weights in _WEIGHTS])
            total, light = total + part, _as_it_is
        z = 0.9562382616834844 * total
        z = 2.326765642916932 * z - 0.020884521182843837 * z**2 + 6.248496625763138e-05 * z**3
        return 100 - 10 * _power(z, 0.6276336467831387)


def _light(x: Tensor) -> Tensor:
    """``_linear`` in at least float32, plane after plane."""
    return _linear(x.to(torch.promote_types(x.dtype, torch.float32)).contiguous())


def _as_it_is(x: Tensor) -> Tensor:
    return x


def _scale(
    a: Tensor,
    b: Tensor,
    rows: int,
    light: Callable[[Tensor], Tensor],
    weights: Sequence[Sequence[float]],
) -> tuple[Tensor, Tensor, Tensor]:
    """The part (B,) of one scale, and both pictures, linear, at half the size. They are (B, 3, h,
    w), and ``light`` makes them linear, in strips of so many rows, an even number or all."""
    height, width = a.shape[2:]
    halves: list[Tensor] = []  # of both pictures, whole: two copies of them are much memory
    sums = []  # of each strip (6, B, 3): three maps, then their fourth powers
    for top in range(0, height, rows):
        start, end = max(top - _RADIUS, 0), min(top + rows + _RADIUS, height)  # what is blurred
        strip = [light(planes[:, :, start:end]) for planes in (a, b)]
        maps = _maps(*map(_xyb, strip))
        own = slice(top - start, min(top + rows, height) - start)
        half = [F.avg_pool2d(p[:, :, own], 2, ceil_mode=True) for p in strip]
        if rows >= height:
            halves = half
        else:
            halves = halves or [
                p.new_empty(*p.shape[:2], -(-height // 2), p.shape[3]) for p in half
            ]
            for whole, part in zip(halves, half, strict=True):
                whole[:, :, top // 2 : top // 2 + part.shape[2]] = part
        inside = [m[:, :, own] for m in maps]
        sums.append(
            torch.stack(
                [m.sum((2, 3)) for m in inside] + [m.square().square().sum((2, 3)) for m in inside]
            )
        )
    means = torch.stack(sums).sum(0) / (height * width)
    norms = [*means[:3], *_power(means[3:], 0.25)]  # (B, 3) each
    weighed: Tensor = sum(
        norm[:, channel] * weights[channel][i]
        for i, norm in enumerate(norms)
        for channel in range(3)
        if weights[channel][i]
    )
    return weighed, halves[0], halves[1]


def _maps(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(B, 3, h, w) in XYB -> where structure differs, where b has edges that a has not, and the
    other way round."""
    mean_a, mean_b = blur(a, _TAPS), blur(b, _TAPS)
    power = blur(a * a + b * b, _TAPS) - (mean_a * mean_a + mean_b * mean_b)
    common = blur(a * b, _TAPS) - mean_a * mean_b
    alike = (1 - (mean_a - mean_b) ** 2) * (2 * common + 0.0009) / (power + 0.0009)
    edges = (1 + (b - mean_b).abs()) / (1 + (a - mean_a).abs()) - 1
    return (1 - alike).clamp_min(0), edges.clamp_min(0), (-edges).clamp_min(0)


def _linear(x: Tensor) -> Tensor:
    """sRGB 0..255 to light 0..1."""
    x = x.clamp(0, 255) / 255
    return torch.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


def _xyb(linear: Tensor) -> Tensor:
    """Opponent colours, moved and scaled so that all are positive, as the metric has them."""
    red, green, blue = linear.unbind(1)
    long, middle, short = (
        (r * red + g * green + b * blue + _BIAS) ** (1 / 3) - _BIAS ** (1 / 3) for r, g, b in _CONES
    )
    y = (long + middle) / 2
    return torch.stack((7 * (long - middle) + 0.42, y + 0.01, short - y + 0.55), 1)


def _power(x: Tensor, exponent: float) -> Tensor:
    """0 where x is not positive, also as gradient."""
    return torch.where(x > 0, torch.where(x > 0, x, 1) ** exponent, 0)
