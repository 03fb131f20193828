"""The differentiable metrics: batches, gradients, devices, numbers in 16 bits."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from distorted import PHOTO, noisy, posterized, soft
from torch import Tensor

from vqcodec.metrics import blur, measure, ssim, ssimulacra2

FUNCTIONS = {
    "ssim": ssim.ssim,
    "ms_ssim": ssim.ms_ssim,
    "ms_ssim_luma": ssim.ms_ssim_luma,
    "ssimulacra2": ssimulacra2.scores,
}
Score = Callable[[Tensor, Tensor], Tensor]
each = pytest.mark.parametrize("score", FUNCTIONS.values(), ids=FUNCTIONS)


def tensor(*pictures: np.ndarray, dtype: torch.dtype = torch.float32) -> Tensor:
    """(B, 3, 163, 181), odd on both sides."""
    return torch.tensor(np.stack(pictures)[:, :163, :181]).permute(0, 3, 1, 2).to(dtype)


@each
def test_a_batch_scores_as_its_pictures_do(score: Score) -> None:
    x, x_hat = tensor(PHOTO, PHOTO, PHOTO), tensor(noisy(), soft(), PHOTO)
    alone = [score(x_hat[i : i + 1], x[i : i + 1]) for i in range(3)]
    found = score(x_hat, x)
    assert found.shape == (3,)
    torch.testing.assert_close(found, torch.cat(alone), rtol=1e-5, atol=1e-5)


@each
def test_equal_pictures_have_the_best_score_and_a_finite_gradient(score: Score) -> None:
    x = tensor(PHOTO, np.zeros_like(PHOTO))
    x_hat = x.clone().requires_grad_()
    found = score(x_hat, x)
    best = 100.0 if score is ssimulacra2.scores else 1.0
    torch.testing.assert_close(found, torch.tensor([best, best]), rtol=0, atol=1e-6)
    found.sum().backward()
    assert x_hat.grad is not None and x_hat.grad.isfinite().all()


@each
def test_the_gradient_is_that_of_finite_differences(score: Score) -> None:
    x = tensor(PHOTO, dtype=torch.float64)
    x_hat = 20 + 0.8 * tensor(noisy(), dtype=torch.float64)  # away from the ends of the range
    x_hat.requires_grad_()
    (gradient,) = torch.autograd.grad(score(x_hat, x).sum(), x_hat)
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        way = torch.randn(x.shape, generator=generator, dtype=torch.float64)
        step = 1e-5
        with torch.no_grad():
            change = score(x_hat + step * way, x) - score(x_hat - step * way, x)
        expected = change.item() / (2 * step)
        assert float((gradient * way).sum()) == pytest.approx(expected, rel=2e-3, abs=1e-7)


@each
def test_the_gradient_leads_to_a_better_picture(score: Score) -> None:
    x, x_hat = tensor(PHOTO), tensor(posterized(32)).requires_grad_()
    (gradient,) = torch.autograd.grad(score(x_hat, x).sum(), x_hat)
    with torch.no_grad():
        better = x_hat + 0.1 * gradient / gradient.abs().mean()
        assert score(better, x) > score(x_hat, x)


@each
def test_float32_is_near_float64(score: Score) -> None:
    x, x_hat = tensor(PHOTO, PHOTO), tensor(noisy(), posterized(8))
    allowed = 0.01 if score is ssimulacra2.scores else 1e-5
    found, exact = score(x_hat, x), score(x_hat.double(), x.double())
    assert exact.dtype == torch.float64
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=allowed)


@each
def test_autocast_and_coarse_products_change_nothing(score: Score) -> None:
    x, x_hat = tensor(PHOTO), tensor(noisy())
    expected = score(x_hat, x)
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(score(x_hat, x), expected)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


@each
def test_other_shapes_are_refused(score: Score) -> None:
    x = tensor(PHOTO)
    for other in (x[:, :1], x[0], x[..., 1:]):
        with pytest.raises(ValueError, match="are compared"):
            score(other, x)


def test_pictures_below_the_window_are_refused() -> None:
    x = torch.zeros(1, 3, 160, 200)
    with pytest.raises(ValueError, match="at least 161x161"):
        ssim.ms_ssim_luma(x, x)
    with pytest.raises(ValueError, match="at least 11x11"):
        ssim.ssim(x[..., :10], x[..., :10])


def test_ssimulacra2_of_small_pictures_has_all_scales() -> None:
    """One pixel, one row, an icon: a score that falls with the distortion."""
    for part in (np.s_[:1, :1], np.s_[:1], np.s_[:48, :48]):
        x = torch.tensor(PHOTO[part]).permute(2, 0, 1)[None]
        found = [
            float(ssimulacra2.scores(torch.tensor(d[part]).permute(2, 0, 1)[None], x))
            for d in (PHOTO, posterized(8), posterized(64))
        ]
        assert found[0] == 100 > found[1] > found[2]


def test_strips_of_rows_give_the_score_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    x, x_hat = tensor(PHOTO), tensor(noisy())
    whole = ssimulacra2.scores(x_hat, x)
    for rows in (2, 6, 64):
        monkeypatch.setattr(ssimulacra2, "_STRIP", rows)
        torch.testing.assert_close(ssimulacra2.scores(x_hat, x), whole, rtol=1e-6, atol=1e-4)


def test_a_metric_measured_first_without_gradients_has_them_later() -> None:
    blur._band.cache_clear()
    with torch.inference_mode():
        ssim.ms_ssim_luma(tensor(PHOTO), tensor(noisy()))
    x_hat = tensor(noisy()).requires_grad_()
    ssim.ms_ssim_luma(x_hat, tensor(PHOTO)).sum().backward()
    assert x_hat.grad is not None


@pytest.mark.parametrize("shape", [(1, 1), (5, 300), (257, 12), (512, 513), (700, 260)])
def test_blur_is_a_convolution(shape: tuple[int, int]) -> None:
    taps = (0.5, 2.0, -1.0, 3.0, 0.25)
    planes = torch.rand(2, *shape, dtype=torch.float64)
    kernel = torch.tensor(taps, dtype=torch.float64)
    kernel = (kernel[:, None] * kernel)[None, None]
    expected = torch.nn.functional.conv2d(planes[:, None], kernel, padding=2)[:, 0]
    torch.testing.assert_close(blur.blur(planes, taps), expected)
    if min(shape) >= 5:
        inside = expected[:, 2:-2, 2:-2]
        torch.testing.assert_close(blur.window_means(planes, taps), inside)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@each
def test_cuda_agrees_with_the_cpu(score: Score) -> None:
    x, x_hat = tensor(PHOTO, PHOTO), tensor(noisy(), soft())
    found = score(x_hat.cuda(), x.cuda())
    torch.testing.assert_close(found.cpu(), score(x_hat, x), rtol=1e-4, atol=1e-3)
    x, x_hat = x.cuda(), x_hat.cuda().requires_grad_()
    torch.cuda.set_sync_debug_mode("error")  # nothing waits for the host
    try:
        score(x_hat, x).sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_bytes_and_bfloat16_are_measured_in_float32() -> None:
    """Which holds all whole numbers up to 256."""
    a, b = PHOTO[:163, :181], noisy()[:163, :181]
    expected = measure(a, b)["ssimulacra2"]
    x, x_hat = tensor(PHOTO), tensor(noisy())
    assert float(ssimulacra2.scores(x_hat.to(torch.uint8), x.bfloat16())) == expected
