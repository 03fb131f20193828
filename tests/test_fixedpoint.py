"""Exact arithmetic: the same integers in any order of summation, as the formulas say."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vqcodec import arithmetic, fixedpoint
from vqcodec.fixedpoint import FixedConv3x3, FixedLinear

SEEDS = st.integers(0, 2**32 - 1)
LIMIT = 2**20  # ACTIVATION_LIMIT in units of 2**-10


def integers(generator: torch.Generator, *shape: int, bits: int = 20) -> Tensor:
    """Uniform in [-2**bits, 2**bits], float64."""
    return torch.randint(-(2**bits), 2**bits + 1, shape, generator=generator).double()


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, n=st.integers(1, 5), inputs=st.integers(1, 40), bits=st.integers(5, 20))
def test_a_linear_map_is_exact_rational_arithmetic(
    seed: int, n: int, inputs: int, bits: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x, bias = integers(generator, n, inputs, bits=bits), integers(generator, 3)
    weight = integers(generator, 3, inputs, bits=15)
    result = FixedLinear(weight / 2**12, bias / 2**10)(x)
    for row, out in zip(x.long().tolist(), result.tolist(), strict=True):
        for w, b, value in zip(weight.long().tolist(), bias.long().tolist(), out, strict=True):
            total = sum(p * q for p, q in zip(row, w, strict=True)) + (b << 12)  # * 2**-12
            half_up = (total + (1 << 11)) >> 12
            assert value == max(-LIMIT, min(LIMIT, half_up))


def test_same_sums_for_any_order_threads_and_layout(two_threads: None) -> None:
    generator = torch.Generator().manual_seed(1)
    x = integers(generator, 700, 300, bits=16)
    weight, bias = torch.randn(40, 300, generator=generator), torch.randn(40, generator=generator)
    linear = FixedLinear(weight, bias)
    expected = linear(x)
    assert expected.abs().max() < arithmetic.ACTIVATION_LIMIT or len(expected.unique()) > 1000
    order = torch.randperm(300, generator=generator)
    assert torch.equal(FixedLinear(weight[:, order], bias)(x[:, order]), expected)
    assert torch.equal(linear(x.t().contiguous().t()), expected)
    assert torch.equal(linear(x.repeat_interleave(2, 1)[:, ::2]), expected)
    assert torch.equal(torch.cat([linear(row[None]) for row in x]), expected)
    by_hand = torch.zeros(700, 40, dtype=torch.float64)
    for column in order.tolist():
        by_hand += x[:, column, None] * fixedpoint.round_weights(weight)[:, column]
    by_hand += fixedpoint.round_activations(bias.double() * 2**10)
    assert torch.equal(fixedpoint.round_activations(by_hand), expected)
    torch.set_num_threads(1)
    assert torch.equal(linear(x), expected)


@settings(max_examples=60, deadline=None)
@given(
    seed=SEEDS,
    n=st.integers(1, 40),
    inputs=st.integers(16, 900),
    outputs=st.integers(1, 70),
    bits=st.integers(4, 16),
    heavy=st.booleans(),
)
def test_products_of_bytes_are_the_same_map(
    seed: int, n: int, inputs: int, outputs: int, bits: int, heavy: bool
) -> None:
    """Of 16 bits there are activations, and weights, that have too many digits."""
    generator = torch.Generator().manual_seed(seed)
    x = integers(generator, n, inputs, bits=bits)
    if heavy:  # as large as sums can be
        x = x.sign() * min(2**bits, fixedpoint.LARGEST_DIGITS)
    weight = integers(generator, outputs, inputs, bits=bits - 1) / 2**12
    bias = integers(generator, outputs) / 2**10
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fixedpoint, "multiplies_bytes", lambda device: False)
        plain = FixedLinear(weight, bias)
        assert not plain.takes_digits
        expected, activated = plain(x), plain.activated(x)
        patch.setattr(fixedpoint, "multiplies_bytes", lambda device: True)
        split = FixedLinear(weight, bias)
        few = weight.abs().max() * 2**12 <= fixedpoint.LARGEST_DIGITS
        assert split.takes_digits == (few and weight.abs().sum(1).max() < 2**11)
        assert (fixedpoint.digits(x) is None) == (x.abs().max() > fixedpoint.LARGEST_DIGITS)
        assert torch.equal(split(x), expected)
        assert torch.equal(split(x.float()), expected)
        assert torch.equal(split.activated(x), activated)


@pytest.mark.parametrize("bits", [13, 17])
def test_a_convolution_by_products_of_bytes(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(bits)
    grids = integers(generator, 2, 30, 40, 32, bits=bits).float()
    conv = torch.randn(48, 32, 3, 3, generator=generator), torch.randn(48, generator=generator)
    results = []
    for fast in (False, True):
        monkeypatch.setattr(fixedpoint, "multiplies_bytes", lambda device, fast=fast: fast)
        results.append(FixedConv3x3(*conv).everywhere(grids))
    assert torch.equal(*results)


def test_digits_are_a_number_to_the_base_256() -> None:
    x = torch.arange(-fixedpoint.LARGEST_DIGITS, fixedpoint.LARGEST_DIGITS + 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fixedpoint, "multiplies_bytes", lambda device: True)
        high, low = fixedpoint.digits(x.float()) or pytest.fail("no digits")
        assert fixedpoint.digits(x.float() * 2) is None
    assert torch.equal(256 * high.int() + low.int(), x.int())


def test_weights_too_large_for_53_bits_are_refused() -> None:
    # |w| * 2**10 + 2**10 < 2**31 leaves sums of |w| below 2**21 - 1
    FixedLinear(torch.full((1, 2), 2.0**20 - 1), torch.zeros(1))
    with pytest.raises(ValueError, match="53 bits"):
        FixedLinear(torch.full((1, 2), 2.0**20), torch.zeros(1))
    with pytest.raises(ValueError, match="53 bits"):
        FixedLinear(torch.full((1, 1), torch.nan), torch.zeros(1))


def test_activations_round_half_up_and_clip() -> None:
    x = torch.tensor([0.5, -0.5, 1.5, -1.5, 0.49, 2.0**21, -(2.0**21)], dtype=torch.float64)
    result = fixedpoint.round_activations(x)
    assert result.tolist() == [1, 0, 2, -1, 0, LIMIT, -LIMIT]


def test_weights_round_to_the_nearest_multiple() -> None:
    weights = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    rounded = fixedpoint.round_weights(weights)
    assert torch.equal((rounded * 2**12).round(), rounded * 2**12)
    assert (rounded - weights).abs().max() <= 2**-13


def test_leaky_relu_rounds_its_input_and_then_the_maximum() -> None:
    x = torch.cat((torch.arange(-(2**16), 2**16) / 2**9, torch.arange(-20, 20) * 2.0**18)).double()
    y = fixedpoint.round_activations(x.clone())
    expected = torch.where(y > 0, y, torch.floor(y / 8 + 0.5))
    assert torch.equal(fixedpoint.leaky_relu(x + 0.5), expected)


def test_an_activated_linear_map_is_the_leaky_relu_of_the_map() -> None:
    generator = torch.Generator().manual_seed(2)
    x = integers(generator, 300, 20, bits=12)
    linear = FixedLinear(torch.randn(30, 20, generator=generator), torch.zeros(30))
    y = linear(x)
    assert torch.equal(linear.activated(x), torch.where(y > 0, y, torch.floor(y / 8 + 0.5)))


@given(st.integers(-LIMIT, LIMIT))
def test_log2_magnitude_is_exact(units: int) -> None:
    u = 1 + 4 * Fraction(abs(units), 2**10)
    exponent = 0
    while 2 ** (exponent + 1) <= u:
        exponent += 1
    expected = (exponent - 1 + u / 2**exponent) / 4
    result = fixedpoint.log2_magnitude(torch.tensor(units / 2**10, dtype=torch.float64)).item()
    assert Fraction(result) == expected


def test_log2_magnitude_in_units_is_log2_magnitude_rounded() -> None:
    x = torch.arange(-(2**21), 2**21 + 1) / 2**10  # all multiples of 2**-10 up to 2**11
    expected = fixedpoint.round_activations(fixedpoint.log2_magnitude(x.double()) * 2**10)
    assert torch.equal(fixedpoint.log2_magnitude_units(x).double(), expected)


def test_log2_magnitude_is_monotone_continuous_and_near_the_logarithm() -> None:
    x = torch.arange(0, 2**18).double() / 2**10
    y = fixedpoint.log2_magnitude(x)
    steps = y.diff()
    assert steps.min() > 0
    assert steps.max() <= 2**-10  # the slope is at most 1
    assert torch.equal(fixedpoint.log2_magnitude(-x), y)
    assert (y - torch.log2(1 + 4 * x) / 4).abs().max() < 0.0216  # 0.0861 / 4


def test_log2_magnitude_has_the_gradient_of_its_values() -> None:
    x = torch.randn(200, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 20
    x.requires_grad_(True)
    fixedpoint.log2_magnitude(x).sum().backward()
    h = 1e-7
    with torch.no_grad():
        slope = (fixedpoint.log2_magnitude(x + h) - fixedpoint.log2_magnitude(x - h)) / (2 * h)
    assert x.grad is not None
    assert torch.allclose(x.grad, slope, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2600), st.integers(0, 8), st.integers(0, 40))
def test_exp2_fixed_is_the_floor(numerator: int, k: int, bits: int) -> None:
    x = arithmetic.exp2_fixed(numerator, k, bits)
    power = 1 << (numerator + (bits << k))  # (2**(numerator / 2**k) * 2**bits) ** (2**k)
    assert x ** (2**k) <= power < (x + 1) ** (2**k)


@settings(max_examples=15, deadline=None)
@given(SEEDS, st.integers(1, 7), st.integers(1, 7))
def test_a_fixed_convolution_is_conv2d_on_the_grid(seed: int, h: int, w: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    grid = integers(generator, h, w, 5, bits=14)
    weight = torch.randn(4, 5, 3, 3, generator=generator)
    bias = torch.randn(4, generator=generator)
    cells = torch.randperm(h * w, generator=generator)
    result = FixedConv3x3(weight, bias)(grid.float(), cells)
    reference = torch.nn.functional.conv2d(
        grid.permute(2, 0, 1)[None],
        fixedpoint.round_weights(weight),
        fixedpoint.round_activations(bias.double() * 2**10),
        padding=1,
    )[0]
    reference = fixedpoint.round_activations(reference.permute(1, 2, 0).reshape(h * w, 4).clone())
    assert torch.equal(result, reference[cells])


def test_the_chunk_size_of_a_convolution_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(3)
    grid = integers(generator, 9, 11, 6, bits=13).float()
    weight = torch.randn(3, 6, 3, 3, generator=generator)
    conv = FixedConv3x3(weight.to(memory_format=torch.channels_last), torch.zeros(3))
    cells = torch.arange(99)
    expected = FixedConv3x3(weight, torch.zeros(3))(grid, cells)
    monkeypatch.setattr(fixedpoint, "CHUNK_CELLS", 7)
    assert torch.equal(conv(grid, cells), expected)


@settings(max_examples=15, deadline=None)
@given(SEEDS, st.integers(1, 4), st.integers(1, 5), st.integers(1, 5))
def test_grids_of_a_batch_do_not_see_each_other(seed: int, b: int, h: int, w: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    grids = integers(generator, b, h, w, 4, bits=14).float()
    conv = FixedConv3x3(torch.randn(4, 4, 3, 3, generator=generator), torch.zeros(4))
    one_by_one = torch.stack([conv.everywhere(grid) for grid in grids])
    assert torch.equal(conv.everywhere(grids), one_by_one)
    cells = torch.randperm(b * h * w, generator=generator)
    assert torch.equal(conv(grids, cells).float(), one_by_one.flatten(0, 2)[cells])
    shuffled = torch.stack([fixedpoint.pixel_shuffle(grid) for grid in grids])
    assert torch.equal(fixedpoint.pixel_shuffle(grids), shuffled)
    linear = FixedLinear(torch.randn(3, 4, generator=generator), torch.zeros(3))
    rows = linear(grids.reshape(-1, 4).double()).float()
    assert torch.equal(fixedpoint.each_cell(linear, grids), rows.reshape(b, h, w, 3))


def test_leaky_relu_is_exact_in_float32() -> None:
    x = torch.arange(-LIMIT, LIMIT + 1, 7).float()
    assert torch.equal(fixedpoint.leaky_relu(x).double(), fixedpoint.leaky_relu(x.double()))


@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 4))
def test_pixel_shuffle_has_the_order_of_torch(h: int, w: int, channels: int) -> None:
    grid = torch.arange(h * w * 4 * channels).reshape(h, w, 4 * channels).float()
    expected = torch.nn.PixelShuffle(2)(grid.permute(2, 0, 1)[None])[0].permute(1, 2, 0)
    assert torch.equal(fixedpoint.pixel_shuffle(grid), expected)
