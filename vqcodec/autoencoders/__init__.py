"""Autoencoders with codes in the middle: one file or folder for each system."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vqcodec.autoencoders.system import Config, System

# name -> module, class, configuration
SYSTEMS: dict[str, tuple[str, str, str]] = {
    "dqae": ("dqae", "DQAE", "DQAEConfig"),
    "ham": ("hqa", "HAM", "HAMConfig"),
    "hqa": ("hqa", "HQA", "HQAConfig"),
    "pqvae": ("pqvae", "PQVAE", "PQVAEConfig"),
    "rrvq": ("rrvq", "RRVQ", "RRVQConfig"),
    "vqvae": ("vqvae", "VQVAE", "VQVAEConfig"),
}


def classes(name: str) -> "tuple[type[System], type[Config]]":
    """The class of a system of the papers and that of its sizes. Raises KeyError."""
    module, model, config = SYSTEMS[name]
    found = import_module(f"vqcodec.autoencoders.{module}")
    return getattr(found, model), getattr(found, config)
