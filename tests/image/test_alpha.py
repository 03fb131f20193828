"""Alpha is lossless, and none that is hostile is decoded."""

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import ALPHA, PIXELS, png, stored
from PIL import Image, ImageFile

from vqcodec import image
from vqcodec.errors import FormatError


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 9), st.sampled_from([1, 51, 255]))
def test_alpha_is_lossless(height: int, width: int, seed: int, step: int) -> None:
    levels = np.random.default_rng(seed).integers(0, 255 // step + 1, (height, width))
    alpha = (levels * step).astype(np.uint8)
    again = image.decode_alpha(image.encode_alpha(alpha), width, height)
    assert again.dtype == np.uint8 and np.array_equal(again, alpha)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"junk",
        image.encode_alpha(ALPHA)[:60],
        image.encode_alpha(ALPHA.T.copy()),
        stored(Image.fromarray(PIXELS), "PNG"),
        stored(Image.fromarray(ALPHA), "BMP"),
        stored(Image.fromarray(ALPHA), "GIF"),
        stored(
            Image.fromarray(ALPHA), "PNG", save_all=True, append_images=[Image.new("L", (7, 5))]
        ),
        png(ALPHA[..., None], 0, 16),
        png(ALPHA[..., None], 3, 8),
        png(np.zeros((5, 4)), 0, 4),
    ],
)
def test_hostile_alpha_is_a_format_error_before_it_is_decoded(
    data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    if data != image.encode_alpha(ALPHA)[:60]:
        monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(FormatError, match=r"alpha"):
        image.decode_alpha(data, 7, 5)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_damaged_alpha_raises_nothing_but_format_errors(data: st.DataObject) -> None:
    damaged = bytearray(image.encode_alpha(ALPHA))
    damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with suppress(FormatError):
        assert image.decode_alpha(bytes(damaged), 7, 5).shape == (5, 7)
