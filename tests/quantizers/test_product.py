"""Depthwise quantization: slices along channels or rows, each with its own codebook."""

import copy

import pytest
import torch
from torch import Tensor

from vqcodec.quantizers.choice import CODEBOOKS, make
from vqcodec.quantizers.product import AXES, Product
from vqcodec.quantizers.vq import VQ


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def latents(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed))


def product(m: int, name: str = "ste", *, dim: int = 3, axis: str = "channel") -> Product:
    return Product([make(name, dim, 8, seed=number) for number in range(m)], axis=axis)


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("name", CODEBOOKS)
def test_evaluation_gives_what_the_codes_decode_to(name: str, axis: str) -> None:
    quantizer = product(3, name, axis=axis).eval()
    z = latents(2, 9, 7, 4)
    result = quantizer(z)
    codes = quantizer.encode(z)
    assert torch.equal(result.codes, codes) and torch.equal(result.z, quantizer.decode(codes))
    assert codes.shape == (2, len(quantizer.sizes), 7, 4) and result.z.shape == z.shape
    for column, size in zip(codes.unbind(1), quantizer.sizes, strict=True):
        assert column.min() >= 0 and column.max() < size


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("name", CODEBOOKS)
def test_a_product_of_one_is_plain_vector_quantization(name: str, axis: str) -> None:
    """Values, codes, loss, gradients and moving averages, without rounding errors (M = 1)."""
    plain = make(name, 4, 8)
    one = Product([copy.deepcopy(plain)], axis=axis)
    z, weight = latents(2, 4, 5, 3), latents(2, 4, 5, 3, seed=1)
    found = []
    for quantizer in (plain, one):
        x = z.clone().requires_grad_(True)
        result = quantizer.train()(x, seeded(2))
        ((result.z * weight).sum() + result.loss).backward()
        state = list(quantizer.state_dict().values()) + [p.grad for p in quantizer.parameters()]
        found.append([result.z, result.codes, result.loss, x.grad, *state])
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)


def test_each_slice_of_the_channels_meets_its_own_codebook() -> None:
    quantizer = product(3).eval()
    z = latents(2, 9, 5, 4)
    result = quantizer(z)
    for m, part in enumerate(quantizer.parts):
        alone = part(z[:, 3 * m : 3 * m + 3])
        assert torch.equal(result.codes[:, m : m + 1], alone.codes)
        assert torch.equal(result.z[:, 3 * m : 3 * m + 3], alone.z)
    total = sum(part(z[:, 3 * m : 3 * m + 3]).loss for m, part in enumerate(quantizer.parts))
    assert torch.allclose(result.loss, total)


def test_each_row_of_pixels_meets_its_own_codebook() -> None:
    """As in table 2: the same vectors of D channels, coded by the quantizer of their row."""
    quantizer = product(3, axis="pixel").eval()
    z = latents(2, 9, 3, 4)
    codes = quantizer.encode(z)
    for row, part in enumerate(quantizer.parts):
        for m in range(3):
            alone = part.encode(z[:, 3 * m : 3 * m + 3, row : row + 1])
            assert torch.equal(codes[:, m : m + 1, row : row + 1], alone)


def test_tied_codebooks_all_code_the_same_vector() -> None:
    quantizer = Product([make("ste", 3, 8, seed=number) for number in range(4)], tied=True).eval()
    z = latents(2, 3, 5, 4)
    result = quantizer(z)
    assert quantizer.dim == 12 and result.z.shape == (2, 12, 5, 4)
    assert torch.equal(result.codes, quantizer.encode(z))
    assert torch.equal(result.z, quantizer.decode(result.codes))
    for m, part in enumerate(quantizer.parts):
        assert torch.equal(result.codes[:, m : m + 1], part.encode(z))


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("name", ["ste", "sfdiveq"])
def test_left_out_columns_leave_their_vectors_zero(name: str, axis: str) -> None:
    quantizer = product(3, name, axis=axis).eval()
    codes = quantizer.encode(latents(2, 9, 5, 4))
    full = quantizer.decode(codes)
    columns = len(quantizer.sizes) // 3
    for kept in range(4):
        z = quantizer.decode(codes, upto=kept * columns)
        assert torch.equal(z[:, : 3 * kept], full[:, : 3 * kept])
        assert not z[:, 3 * kept :].any()


def test_the_error_falls_with_the_number_of_slices() -> None:
    """The paper's point: capacity K^M for the cost of M K. Lloyd's algorithm on white noise."""
    z = latents(1, 12, 16, 16)
    errors = []
    for m in (1, 2, 3, 6):
        quantizer = product(m, "ema", dim=12 // m)
        for part in quantizer.parts:
            part.inner.decay = 0.0  # each step sets the codewords to the means of their latents
        for part, x in zip(quantizer.parts, z.chunk(m, 1), strict=True):
            part.inner.start(x)
        for _ in range(10):
            quantizer.train()(z)
        errors.append((quantizer.eval()(z).z - z).square().mean().item())
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < errors[0] / 3


def test_slices_that_do_not_fit_are_refused() -> None:
    for parts, axis, words in (
        ([], "channel", "at least 1"),
        ([VQ(2, 4), VQ(3, 4)], "channel", "different dim"),
        ([VQ(2, 4)], "depth", "none of channel, pixel"),
        ([VQ(2, 4), VQ(2, 5)], "pixel", "different sizes"),
    ):
        with pytest.raises(ValueError, match=words):
            Product(parts, axis=axis)
    with pytest.raises(ValueError, match="tied"):
        Product([VQ(2, 4)], axis="pixel", tied=True)
    assert Product([VQ(2, 4), VQ(2, 5)]).sizes == (4, 5)
    with pytest.raises(ValueError, match="cannot be cut"):
        product(3)(latents(1, 8, 4, 4))
    with pytest.raises(ValueError, match="cannot be cut"):
        product(3, axis="pixel")(latents(1, 9, 2, 4))
