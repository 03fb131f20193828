"""The loop: optimizers, accumulation, precision, devices, what it logs and shows."""

import io
import json
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from functools import partialmethod
from pathlib import Path
from typing import Any

import pytest
import tiny_codec
import torch
from rich.console import Console
from tiny_training import SHORT, TINY, ladder_run, photo
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

from vqcodec.autoencoders import SYSTEMS, classes
from vqcodec.autoencoders.ladder.model import Ladder
from vqcodec.errors import InputError, OutputError, UsageError
from vqcodec.training import journal, loop, optimizers
from vqcodec.training.batches import Crops
from vqcodec.training.config import OPTIMIZERS, SystemTraining
from vqcodec.training.display import Display
from vqcodec.training.journal import Journal
from vqcodec.training.ladder import LadderTask
from vqcodec.training.loop import Run
from vqcodec.training.meter import State
from vqcodec.training.systems import SystemTask

HELD_OUT = torch.from_numpy(photo(64, 64, 9)).permute(2, 0, 1)[None].float()


def weights(run: Run) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in run.model.parameters()])


# --- optimizers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_run_resumes_exactly_with_any_optimizer(name: str, tmp_path: Path) -> None:
    if name != "adamw":
        pytest.importorskip("pytorch_optimizer")
    settings: dict[str, Any] = {"optimizer": name, "steps": 14, "weight_decay": 0.01, "batch": 1}
    whole, first, second = (ladder_run(tmp_path / part, **settings) for part in ("a", "b", "b"))
    for _ in range(14):
        whole.advance()
    for _ in range(10):  # SOAP turns its basis at the next
        first.advance()
    first.save()
    assert second.resume()
    for _ in range(4):
        second.advance()
    assert torch.equal(weights(second), weights(whole))
    assert not torch.allclose(weights(whole), weights(ladder_run(tmp_path / "new")))


def test_only_layers_have_more_than_adamw(tmp_path: Path) -> None:
    pytest.importorskip("pytorch_optimizer")
    model = Ladder(TINY)
    groups = [{"params": list(model.parameters()), "factor": 0.5}]
    made = optimizers.make("muon", model, groups, 0.1)
    matrices, others = ({id(p) for p in group["params"]} for group in made.param_groups)
    assert matrices == {
        id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)
    }
    assert id(model.analysis.linear) in others and id(model.hyper_scale) in others
    assert len(matrices) + len(others) == len(list(model.parameters()))
    assert [g["factor"] for g in made.param_groups] == [0.5, 0.5]
    assert [g["weight_decay"] for g in made.param_groups] == [0.1, 0.1]


@pytest.mark.parametrize("fast", [torch.bfloat16, torch.float32])
def test_muon_turns_a_gradient_into_a_rotation_of_either_precision(
    fast: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pytorch_optimizer")
    monkeypatch.setattr(optimizers, "fast_dtype", lambda device: fast)
    layers = nn.ModuleList([nn.Conv2d(4, 8, 3), nn.Linear(16, 8), nn.Linear(24, 6)])
    made = optimizers.make("muon", layers, [{"params": list(layers.parameters()), "lr": 1.0}], 0.0)
    generator = torch.Generator().manual_seed(1)
    for parameter in layers.parameters():
        parameter.data.zero_()
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    made.step()
    for layer in layers:
        step = -layer.weight.detach().flatten(1) / (0.2 * max(layer.weight.flatten(1).shape) ** 0.5)
        lengths = torch.linalg.svdvals(step)
        assert lengths.min() > 0.6 and lengths.max() < 1.3  # five steps of the iteration are rough
        assert (step * layer.weight.grad.flatten(1)).sum() > 0
        assert torch.allclose(step, step.to(torch.bfloat16).float(), rtol=1e-5) == (
            fast == torch.bfloat16
        )


def test_a_missing_extra_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_optimizer", None)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UsageError, match="pip install pytorch-optimizer"):
        ladder_run(tmp_path, optimizer="soap")
    with pytest.raises(UsageError, match="pip install tensorboard"):
        Journal(tmp_path, tensorboard=True)


# --- a step ---------------------------------------------------------------------------------------


def still(run: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The run, with rate points and noise that do not depend on how a batch is cut."""
    bits = lambda config, count, generator: torch.full((count,), 7.0)  # noqa: E731
    monkeypatch.setattr("vqcodec.training.ladder.sample_bits", bits)
    monkeypatch.setattr(
        torch, "rand", lambda shape, generator, device: torch.full(shape, 0.25, device=device)
    )
    return run


def test_a_batch_in_parts_has_the_gradient_of_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = still(ladder_run(tmp_path / "a", batch=4, late_batch=4, clip=1e9), monkeypatch)
    parts = still(
        ladder_run(tmp_path / "b", batch=4, late_batch=4, clip=1e9, accumulate=4), monkeypatch
    )
    expected, found = whole.advance(), parts.advance()
    for name in ("loss", "mse", "bpp", "norm"):
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=0)
    for a, b in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        assert a.grad is not None and b.grad is not None
        torch.testing.assert_close(b.grad, a.grad, rtol=1e-3, atol=1e-4 * float(a.grad.abs().max()))


def test_a_batch_that_cannot_be_cut_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a batch of 2 cannot be cut into 3 parts"):
        ladder_run(tmp_path, accumulate=3)


def test_on_a_device_a_step_asks_nothing_and_leaves_out_what_is_unusual(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the device "meta" whatever would wait for a result is an error."""
    monkeypatch.setattr(torch, "autocast", lambda *args, **options: nullcontext())
    run = ladder_run(tmp_path)
    run.advance()
    run.device = torch.device("meta")
    run.model.to("meta")
    run.ema = {k: v.to("meta") for k, v in run.ema.items()}
    run.norms = run.norms.to("meta")
    run.stages = run.task.stages()
    run.optimizer = optimizers.make("adamw", run.model, run.stages[0], 0.0)
    out = run.advance()
    assert out["loss"].device.type == out["skipped"].device.type == "meta"

    # What is done there, with tensors that can be looked at.
    for unusual, kept in ((True, True), (False, False)):
        run = ladder_run(tmp_path)
        run.advance()
        before = weights(run)
        run.device = torch.device("meta")
        for p in run.model.parameters():
            assert p.grad is not None
            p.grad.fill_(float("nan") if unusual else 1.0)
        run._update(torch.tensor(unusual), 0.5, run.generator)
        assert torch.equal(weights(run), before) == kept
        assert weights(run).isfinite().all()


@pytest.mark.parametrize(
    ("norms", "norm", "expected"),
    [
        ([], 1e9, False),  # nothing is known yet
        ([], float("nan"), True),
        ([], float("inf"), True),
        ([1.0] * 19, 1e9, False),
        ([1.0] * 20, 4.0, False),
        ([1.0] * 20, 4.1, True),
        ([1.0] * 20 + [9.0] * 40, 30.0, False),
        ([9.0] * 60 + [1.0] * 200, 4.1, True),  # long ago
    ],
)
def test_a_norm_of_several_medians_is_unusual(
    norms: list[float], norm: float, expected: bool, tmp_path: Path
) -> None:
    run = ladder_run(tmp_path)
    for known in norms:
        run._unusual(torch.tensor(known))
    assert bool(run._unusual(torch.tensor(norm))) == expected


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_step_on_cuda_does_not_wait(tmp_path: Path) -> None:
    crops = Crops([photo(90, 80, i) for i in range(4)])
    run = Run(SHORT, lambda crops: LadderTask(SHORT, TINY, crops), crops, tmp_path, "cuda")
    run.advance()
    run.batches.batch(1)  # its copy to pinned memory waits
    batch = run.batches.batch(1)
    run.batches.batch = lambda step: batch  # type: ignore[method-assign]
    torch.cuda.set_sync_debug_mode("error")
    try:
        out = run.advance()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert out["loss"].isfinite()


# --- precision ------------------------------------------------------------------------------------


def system_run(folder: Path, system: str, config: SystemTraining) -> Run:
    shape = tiny_codec.config(system, side=32)
    crops = Crops([photo(40, 40, i) for i in range(4)])
    return Run(config, lambda crops: SystemTask(config, system, shape), crops, folder)


@pytest.mark.parametrize("system", sorted(SYSTEMS))
def test_every_system_trains_in_bfloat16(system: str, tmp_path: Path) -> None:
    config = SystemTraining(batch=4, crop=32, warmup_steps=0, workers=0, amp="bf16", lr=1e-4)
    run = system_run(tmp_path, system, config)
    other = system_run(tmp_path, system, replace(config, amp="off"))
    for _ in range(2):
        found, expected = run.advance(), other.advance()
        assert found["skipped"] == 0
    assert found["mse"] != expected["mse"]
    assert found["mse"] == pytest.approx(float(expected["mse"]), rel=0.1)
    assert all(p.dtype == torch.float32 for p in run.model.parameters())


def assert_alike(plain: Run, compiled: Run) -> None:
    for _ in range(2):
        expected, found = plain.advance(), compiled.advance()
    assert found["loss"] == pytest.approx(float(expected["loss"]), rel=1e-3)
    assert compiled.model.state_dict().keys() == plain.model.state_dict().keys()


@pytest.mark.slow
def test_compiled_networks_train_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a system with few networks, as each takes 4 s to compile."""
    monkeypatch.setattr("torch._inductor.config.compile_threads", 1)  # no processes for that
    config = SystemTraining(batch=4, crop=32, warmup_steps=0, workers=0, lr=1e-4)
    plain = system_run(tmp_path, "vqvae", config)
    assert_alike(plain, system_run(tmp_path, "vqvae", replace(config, compile=True)))


def test_the_ladder_s_networks_can_be_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Into graphs of forward and backward pass, which are run as they are."""
    backend = CompileCounterWithBackend("aot_eager")
    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend=backend))
    assert_alike(ladder_run(tmp_path), ladder_run(tmp_path, compile=True))
    assert backend.frame_count >= len(TINY.slices)


# --- what is left to read -------------------------------------------------------------------------


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / journal.LOG).read_text().splitlines()]


def test_the_log_has_means_what_was_measured_and_the_settings(tmp_path: Path) -> None:
    run = ladder_run(tmp_path, steps=100, batch=1, late_steps=0, evaluate_steps=40)
    states: list[State] = []
    assert loop.train(run, HELD_OUT, Journal(tmp_path), states.append)
    log = lines(tmp_path)
    assert log[0]["config"]["steps"] == 100 and log[0]["model"] == TINY.to_dict()
    assert [x["step"] for x in log if "held_out" in x] == [40, 80, 100]
    *first, means = (x for x in log if "loss" in x)
    assert [x["step"] for x in first] == list(range(10, 100, 10))
    assert means["step"] == 100 and {"bpp", "mse", "perplexity", "norm", "lr"} <= means.keys()
    assert [s.step for s in states] == list(range(10, 101, 10))
    assert states[-1].seconds_left == 0 < states[0].seconds_left
    assert all(s.images_per_second > 0 and 0 <= s.wait_share < 1 for s in states)


def test_denormal_numbers_are_zero_while_a_training_runs(tmp_path: Path) -> None:
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor has no such mode")
    torch.set_flush_denormal(False)
    denormal, seen = torch.tensor([1e-40]), list[float]()
    run = ladder_run(tmp_path, steps=10, late_steps=0)
    assert loop.train(run, HELD_OUT, None, lambda state: seen.append((denormal * 1).item()))
    assert seen == [0] and (denormal * 1).item() > 0


def test_time_is_up_at_the_end_of_a_step_with_a_checkpoint(tmp_path: Path) -> None:
    run = ladder_run(tmp_path)
    notes: list[str] = []
    now = time.monotonic()
    assert not loop.train(run, HELD_OUT, None, note=notes.append, until=now)
    assert run.step == 1 and notes == [f"stopped at step 1 of 6: {tmp_path / loop.CHECKPOINT}"]
    again = ladder_run(tmp_path)
    assert again.resume() and again.step == 1


def test_what_a_killed_run_wrote_after_its_checkpoint_is_dropped(tmp_path: Path) -> None:
    first = Journal(tmp_path)
    for step in (1, 2, 3):
        first.write(step, 0.4, loss=0.5)
    first.close()
    with (tmp_path / journal.LOG).open("a") as file:
        file.write('{"step": 2, "lo')  # torn
    second = Journal(tmp_path, after=2)
    second.write(3, 9.6, loss=0.25)
    second.close()
    expected = [(1, 0, 0.5), (2, 0, 0.5), (3, 10, 0.25)]
    assert [(x["step"], x["seconds"], x["loss"]) for x in lines(tmp_path)] == expected


def test_tensorboard_gets_curves_codes_and_pictures(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = ladder_run(tmp_path, steps=20, batch=1, late_steps=0, evaluate_steps=20)
    written = Journal(tmp_path, tensorboard=True)
    loop.train(run, HELD_OUT, written)
    written.close()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    tags = events.Tags()
    assert {"loss", "bpp", "perplexity", "held_out/8bit/psnr_db"} <= set(tags["scalars"])
    assert {"original", "6bit", "8bit"} == set(tags["images"])
    assert {"slice1", "slice4"} <= set(tags["histograms"])
    assert [event.step for event in events.Scalars("loss")] == [10, 20]  # from the first steps on
    settings = [name for name in tags["scalars"] if name.startswith(("config", "model", "stage"))]
    assert not settings and {"config/text_summary", "model/text_summary"} <= set(tags["tensors"])
    assert (events.Images("8bit")[0].width, events.Images("8bit")[0].height) == (64, 64)


def state(**changes: Any) -> State:
    values = {"loss": 1.25, "mse": 30.0, "bpp": 0.5, "perplexity": 7.0}
    settled = {
        "step": 20, "steps": 80, "stage": 1, "stages": 1, "values": values, "psnr_db": 33.36,
        "lr": 1e-3, "images_per_second": 12.5, "wait_share": 0.02, "seconds_left": 61,
    }  # fmt: skip
    return State(**(settled | changes))


def test_a_pipe_gets_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    with Display(quiet=False) as display:
        display.update(state())
        display.update(state(step=30))  # too soon
        assert list(display.track("ab", "reading")) == ["a", "b"]
        display.finish()
    assert capsys.readouterr().err == (
        "step 20/80  loss 1.25  bpp 0.500  PSNR 33.36 dB  perplexity 7.0  lr 1.0e-03  "
        "images/s 12.5  waiting 2 %  left 0:01:01\n"
    )
    with Display(quiet=True) as display:
        display.update(state())
        display.note("a")
    assert capsys.readouterr().err == ""


def test_a_terminal_shows_all_of_it_live() -> None:
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=140)
    with Display(quiet=False, console=console) as display:
        display.update(state(stage=2, stages=5))
        display.note("held out at step 20")
    for word in ("20/80", "2 of 5", "1.25", "33.36 dB", "0:01:01", "images/s", "held out at"):
        assert word in output.getvalue()


# --- damaged and foreign checkpoints --------------------------------------------------------------


def test_checkpoints_that_do_not_fit_are_input_errors(tmp_path: Path) -> None:
    run = ladder_run(tmp_path, optimizer="adamw")
    run.advance()
    run.save()
    assert not (tmp_path / "last.tmp").exists()
    config = SystemTraining(batch=4, workers=0)
    shape = classes("vqvae")[1]()
    crops = Crops([photo(40, 40, 0)])
    other = Run(config, lambda crops: SystemTask(config, "vqvae", shape), crops, tmp_path)
    with pytest.raises(InputError, match="not a checkpoint of this recipe"):
        other.resume()
    (tmp_path / loop.CHECKPOINT).write_bytes(b"PK")
    with pytest.raises(InputError, match=r"last.pt: not a checkpoint of this recipe: ") as caught:
        ladder_run(tmp_path).resume()
    assert "\n" not in str(caught.value)


def test_a_checkpoint_that_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    run = ladder_run(tmp_path / "run")
    (tmp_path / "run" / "last.tmp").mkdir()
    with pytest.raises(OutputError, match="cannot be written"):
        run.save()
