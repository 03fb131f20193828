"""Quantizers: what the decoder sees is what the codes say."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vqcodec.quantizers.depthwise import Depthwise


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 1024), st.floats(0.1, 1000))
def test_forward_gives_what_the_codes_decode_to(seed: int, size: int, spread: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(2, 3, 4, 5, generator=generator) * spread
    quantizer = Depthwise(3, size).eval()
    result = quantizer(z)
    assert torch.equal(result.z, quantizer.decode(quantizer.encode(z)))
    assert torch.equal(result.codes, quantizer.encode(z))
    assert result.codes.dtype == torch.int64
    assert result.codes.min() >= 0 and result.codes.max() < size
    assert result.loss == 0 and result.bits is None
    inside = (z > -(size // 2)) & (z < size - 1 - size // 2)
    assert ((result.z - z).abs()[inside] <= 0.5).all()


@pytest.mark.parametrize("size", [2, 7, 256])
def test_codes_survive_their_own_values(size: int) -> None:
    quantizer = Depthwise(1, size)
    codes = torch.arange(size).reshape(1, 1, 1, size)
    assert torch.equal(quantizer.encode(quantizer.decode(codes)), codes)


def test_values_outside_the_codebook_are_clipped_and_zero_is_a_codeword() -> None:
    quantizer = Depthwise(1, 8)
    z = torch.tensor([-1e9, -4.4, 0.2, 3.4, 1e9]).reshape(1, 1, 1, 5)
    assert quantizer.encode(z).flatten().tolist() == [0, 0, 4, 7, 7]
    assert quantizer(z).z.flatten().tolist() == [-4, -4, 0, 3, 3]


def test_the_training_gradient_is_the_identity() -> None:
    quantizer = Depthwise(2, 16).train()
    z = (torch.randn(1, 2, 3, 3, generator=torch.Generator().manual_seed(0)) * 20).double()
    z.requires_grad_(True)
    result = quantizer(z)
    assert torch.equal(result.z, quantizer.decode(result.codes).double())
    weight = torch.arange(18.0, dtype=torch.float64).reshape(1, 2, 3, 3)
    (result.z * weight).sum().backward()
    assert z.grad is not None
    assert torch.equal(z.grad, weight)


def test_columns_from_upto_on_are_zero() -> None:
    quantizer = Depthwise(4, 32)
    codes = torch.randint(32, (2, 4, 3, 3), generator=torch.Generator().manual_seed(0))
    full, half = quantizer.decode(codes), quantizer.decode(codes, upto=2)
    assert torch.equal(half[:, :2], full[:, :2])
    assert not half[:, 2:].any()
    assert torch.equal(quantizer.decode(codes, upto=4), full)
    assert not quantizer.decode(codes, upto=0).any()


def test_a_codebook_needs_two_codewords() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        Depthwise(3, 1)
