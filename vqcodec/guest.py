"""Torch as the codecs need it, whatever the program around them has set, and left as it was.

What is set here holds for the calling thread, and no longer than a call. Code that runs within
``own_torch`` names the types of the tensors that it makes, as the default type is the program's.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


@contextmanager
def own_torch() -> Iterator[None]:
    """Inference on the CPU or where tensors are, in the precision that the code says. A decorator,
    too, but not for generators."""
    with ExitStack() as settings:
        settings.enter_context(torch.inference_mode())
        _leave_programs_settings(settings)
        yield


@contextmanager
def own_gradients() -> Iterator[None]:
    """As ``own_torch``, but what is computed can be differentiated. A decorator, too."""
    with ExitStack() as settings:
        settings.enter_context(torch.inference_mode(False))
        settings.enter_context(torch.enable_grad())
        _leave_programs_settings(settings)
        yield


@contextmanager
def one_thread() -> Iterator[None]:
    """For many small operations of this thread, of which each would wake the others up."""
    threads = torch.get_num_threads()
    if threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def making_networks() -> Iterator[None]:
    """For networks whose weights are put in at once: first weights are not drawn, but zero.

    So the program's random numbers are the same with and without us.
    """
    with ExitStack() as settings:
        settings.enter_context(torch.inference_mode(False))  # else in no graph they could ever be
        _leave_programs_settings(settings)
        settings.enter_context(_NoDraws())
        yield


def _leave_programs_settings(settings: ExitStack) -> None:
    for kind in ("cpu", "cuda"):
        if torch.is_autocast_enabled(kind):
            settings.enter_context(torch.autocast(kind, enabled=False))
    if torch.get_default_device().type != "cpu":
        settings.enter_context(torch.device("cpu"))


@cache
def survive_forks() -> None:
    """From now on, a forked process computes with one thread.

    It inherits torch's pool of threads without the threads, and would wait for them for ever.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


class _NoDraws(TorchFunctionMode):
    """Zeros in place of random numbers, but for those of a generator that is named."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if kwargs.get("generator") is None:
            if name.endswith(("uniform_", "normal_", "orthogonal_")):  # of tensors and of nn.init
                with torch.no_grad():
                    return (args[0] if args else kwargs["tensor"]).zero_()
            if name in ("rand", "randn"):
                return torch.zeros(*args, **{k: v for k, v in kwargs.items() if k != "generator"})
        return func(*args, **kwargs)
