"""What ``--rate`` takes, and what is said of all else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqcodec.errors import RateError
from vqcodec.rate import FORMS, parse_rate


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("9bit", "bit", 9),
        (" 7.3bit ", "bit", 7.3),
        ("7 bit", "bit", 7),
        ("8bits", "bit", 8),
        ("0.25bpp", "bpp", 0.25),
        (".5bpp", "bpp", 0.5),
        ("12kB", "bytes", 12000),
        ("12 KB", "bytes", 12000),
        ("12k", "bytes", 12000),
        ("1.5MB", "bytes", 1.5e6),
        ("2m", "bytes", 2e6),
        ("12000B", "bytes", 12000),
        ("34dB", "db", 34),
        ("34db", "db", 34),
        ("80q", "quality", 80),
        ("0Q", "quality", 0),
        ("80", "quality", 80),
        ("16.5", "quality", 16.5),
    ],
)
def test_rates_are_parsed(text: str, kind: str, value: float) -> None:
    rate = parse_rate(text)
    assert rate.kind == kind and rate.value == pytest.approx(value)


def test_a_grid_follows_the_bits() -> None:
    assert parse_rate("9bit-8x8").grid == "8x8"


@pytest.mark.parametrize("form", FORMS.replace(" or", ",").split(", "))
def test_the_forms_that_are_offered_are_forms(form: str) -> None:
    assert parse_rate(form).value > 0


@pytest.mark.parametrize(
    "text",
    ["", "bit", "-9bit", "nan bit", "1e3B", "0bpp", "0B", "9kB-2", "9 9B", "9q-8", "95.1q", "inf"],
)
def test_other_rates_are_refused(text: str) -> None:
    with pytest.raises(RateError, match="rate"):
        parse_rate(text)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("80%", "80q"),
        ("quality 80", "80q"),
        ("8bts", "8bit"),
        ("8-bit", "8bit"),
        ("7,5bit", "7.5bit"),
        ("9b", "9B"),
        ("12KiB", "12kB"),
        ("12 kbytes", "12kB"),
        ("12000 Bytes", "12000B"),
        ("34psnr", "34dB"),
        ("psnr=34", "34dB"),
    ],
)
def test_the_nearest_form_is_named(text: str, meant: str) -> None:
    with pytest.raises(RateError, match=f"did you mean {meant}?"):
        parse_rate(text)
    parse_rate(meant)


@pytest.mark.parametrize("text", ["8", "9", "15.9", "0"])
def test_a_small_number_without_a_unit_may_be_bits_or_a_quality(text: str) -> None:
    with pytest.raises(RateError, match=f"{text}bit or {text}q"):
        parse_rate(text)


@given(st.text(max_size=12))
def test_any_text_is_a_rate_or_a_rate_error(text: str) -> None:
    try:
        assert parse_rate(text).value >= 0
    except RateError as error:
        assert "\n" not in str(error)
