"""Losses: mixtures of measures in units of squared error, and what a tuned ladder makes of them."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_training import TINY, ladder_run, photo

from vqcodec.metrics import mixture
from vqcodec.metrics.shares import LossSettings

EVERYTHING = LossSettings(mse=0.1, luma=0.2, ms_ssim_y=0.3, ssimulacra2=0.4)


def pair() -> tuple[torch.Tensor, torch.Tensor]:
    """A picture and a blurred one, (2, 3, 192, 192) each: the second sample is the original."""
    x = torch.from_numpy(photo(192, 192, 1)).permute(2, 0, 1)[None].float()
    blurred = torch.nn.functional.avg_pool2d(x, 3, 1, 1)
    return torch.cat((blurred, x)), torch.cat((x, x))


def test_a_mixture_adds_up_its_measures_at_their_exchange_rates() -> None:
    x_hat, x = pair()
    bits = torch.tensor([7.0, 9.0])
    found = mixture.mixture(EVERYTHING)(x_hat, x, bits)
    expected = 0.1 * mixture.squared_error(x_hat, x)
    for name, share in (("luma", 0.2), ("ms_ssim_y", 0.3), ("ssimulacra2", 0.4)):
        rates = getattr(EVERYTHING, f"{name}_rates")
        rate = torch.tensor([rates[2], rates[4]])
        expected = expected + share * rate * mixture.MEASURES[name](x_hat, x)
    torch.testing.assert_close(found, expected)
    assert found[0] > 1 and found[1].abs() < 0.5  # an equal picture costs nothing


def test_squared_error_alone_is_the_default() -> None:
    x_hat, x = pair()
    found = mixture.mixture(LossSettings())(x_hat, x, torch.tensor([7.0, 8.0]))
    assert torch.equal(found, mixture.squared_error(x_hat, x))


def test_luma_error_sees_a_grey_step_and_less_of_a_blue_one() -> None:
    x = torch.full((1, 3, 8, 8), 100.0)
    assert mixture.luma_error(x + 10, x).item() == pytest.approx(100, rel=1e-5)
    blue = x.clone()
    blue[:, 2] += 10
    assert mixture.luma_error(blue, x).item() == pytest.approx(1.14**2, rel=1e-4)


def test_exchange_rates_are_geometric_between_whole_rate_points() -> None:
    rates = (16.0, 8.0, 4.0, 2.0, 1.0, 0.5)
    bits = torch.tensor([4.9, 5.0, 6.5, 9.0, 10.1])
    expected = torch.exp2(4 - (bits - 5))
    torch.testing.assert_close(mixture.exchange(rates, bits), expected)


@pytest.mark.parametrize("name", list(mixture.MEASURES))
def test_every_measure_has_a_gradient_towards_the_original(name: str) -> None:
    x_hat, x = pair()
    x_hat = x_hat[:1].clone().requires_grad_()
    error = mixture.MEASURES[name](x_hat, x[:1]).sum()
    error.backward()
    assert x_hat.grad is not None and x_hat.grad.isfinite().all()
    step = 0.5 * x_hat.grad / x_hat.grad.abs().max()
    assert mixture.MEASURES[name](x_hat.detach() - step, x[:1]).item() < error.item()


def test_a_tuned_ladder_is_trained_for_both_aims_and_evaluated_at_both(tmp_path: Path) -> None:
    shape = replace(TINY, tuned=True, weighted=True)
    loss = replace(EVERYTHING, visual=0.5)
    run = ladder_run(
        tmp_path, shape, loss, crop=192, late_crop=192, batch=2, late_batch=2, steps=3, late_steps=0
    )
    before = run.model.step_weights.weight.detach().clone()
    for _ in range(2):
        out = run.advance()
        assert out["loss"].isfinite() and out["skipped"] == 0
    assert not torch.equal(run.model.step_weights.weight, before)
    measured = run.task.evaluate(run.averaged(), pair()[1][:1])
    assert list(measured) == [f"{n}bit {aim}" for aim in ("psnr", "visual") for n in (6, 7, 8, 9)]
    assert measured["6bit psnr"]["psnr_db"] < measured["9bit psnr"]["psnr_db"]
