"""The float network that codes are drawn with: its order, its odds, its file."""

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from tiny_codec import made, photo
from torch import Tensor

from vqcodec.autoencoders import sampler
from vqcodec.autoencoders.dqae import DQAEConfig
from vqcodec.autoencoders.hqa import HQAConfig
from vqcodec.autoencoders.pqvae import PQVAEConfig
from vqcodec.autoencoders.sampler import Sampler
from vqcodec.autoencoders.system import Level
from vqcodec.cli.program import program
from vqcodec.codec import Codec
from vqcodec.compress import compress
from vqcodec.decompress import Choices, decompress
from vqcodec.drawing import sample
from vqcodec.errors import CodecError
from vqcodec.image import Picture
from vqcodec.training.sampler import fit

LEVELS = [Level("top", (1, 2), (3, 5)), Level("fine", (2, 2), (4,))]
HQA = HQAConfig(side=16, channels=1, codebook=8, dim=4, encoder=(4, 4), decoder=(4, 4), places=64)
PROGRESSIVE = PQVAEConfig(side=32, channels=1, hidden=4, dim=4, rank=(2, 2), size=8, steps=4)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network(maps: bool = False, seed: int = 0) -> Sampler:
    torch.manual_seed(seed)
    net = Sampler(LEVELS, 16, 2, maps).eval()
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.2 * torch.randn(p.shape))
    return net


def sequences(count: int, seed: int = 0) -> Tensor:
    sizes = torch.tensor(network().sizes)
    return (torch.rand(count, len(sizes), generator=seeded(seed)) * sizes).long()


def test_a_sequence_is_coarse_first_and_column_after_column() -> None:
    codes = [torch.arange(4).reshape(1, 2, 1, 2), 4 + torch.arange(4).reshape(1, 1, 2, 2)]
    assert sampler.sequence(codes).tolist() == [[0, 1, 2, 3, 4, 5, 6, 7]]
    assert network().sizes == (3, 3, 5, 5, 4, 4, 4, 4)
    back = network().grids(sampler.sequence(codes))
    assert all(torch.equal(a, b) for a, b in zip(back, codes, strict=True))


@pytest.mark.parametrize("maps", [False, True])
@torch.no_grad()
def test_a_code_depends_on_those_before_alone(maps: bool) -> None:
    net, codes = network(maps), sequences(5)
    whole = net(codes).softmax(2)
    assert torch.allclose(whole.sum(2), torch.ones(5, 8))
    for n in range(8):
        assert torch.allclose(net(codes[:, :n]).softmax(2), whole[:, : n + 1], atol=1e-5)
        other = codes.clone()
        other[:, n:] = sequences(5, 1)[:, n:]
        assert torch.allclose(net(other).softmax(2)[:, : n + 1], whole[:, : n + 1], atol=1e-5)
    for position, size in enumerate(net.sizes):
        assert not whole[:, position, size:].any()


@torch.no_grad()
def test_drawn_codes_have_the_odds_of_the_network() -> None:
    net, n = network(), 4000
    drawn = net.complete(torch.empty(n, 0, dtype=torch.int64), seeded())
    odds = net(torch.empty(1, 0, dtype=torch.int64)).softmax(2)[0, 0, :3]
    found = torch.bincount(drawn[:, 0], minlength=3) / n
    assert ((found - odds).abs() < 5 * (odds * (1 - odds) / n).sqrt()).all()
    known = sequences(6)[:, :5]
    assert torch.equal(net.complete(known, seeded())[:, :5], known)
    assert torch.equal(net.complete(known, seeded(1)), net.complete(known, seeded(1)))
    assert (drawn < torch.tensor(net.sizes)).all()


@torch.no_grad()
def test_the_nats_of_a_sequence_are_those_of_its_codes() -> None:
    net, codes = network(), sequences(4)
    expected = -net(codes).log_softmax(2).gather(2, codes[:, :, None]).sum((1, 2))
    assert torch.allclose(net.nats(codes), expected)


def test_what_codes_share_is_learned() -> None:
    """The second half repeats the first: half of the nats of independent codes."""
    torch.manual_seed(0)
    net = Sampler([Level("one", (2, 2), (8,))], 32, 2)
    half = torch.randint(8, (4000, 2), generator=seeded())
    nats = fit(net, torch.cat((half, half), 1), 300)
    assert nats == pytest.approx(2 * np.log(8), rel=0.05)


def test_step_maps_are_of_columns_and_begin_as_the_identity() -> None:
    assert network().maps.shape == (0, 16, 16)
    maps = Sampler(LEVELS, 16, 2, True).maps
    assert torch.equal(maps, torch.eye(16).expand(3, 16, 16))  # 2 columns, and 1


# --- files and commands ---------------------------------------------------------------------------


def with_sampler(folder: Path, system: str, shape: object, rate: str) -> Codec:
    codec = made(folder, system, shape)  # type: ignore[arg-type]
    torch.manual_seed(1)
    levels = codec.system.model.levels(rate)  # type: ignore[union-attr]
    sampler.save(Sampler(levels, 8, 1, system == "pqvae"), rate, codec.card.path)
    return codec


def test_a_codec_s_network_survives_its_file_and_changes_no_hash(tmp_path: Path) -> None:
    codec = with_sampler(tmp_path / "made", "hqa", HQA, "3bit-4x4")
    model = codec.system.model  # type: ignore[union-attr]
    rate, net = sampler.load(codec.card.path, model) or ("", None)
    assert rate == "3bit-4x4" and net is not None
    _, twin = sampler.load(codec.card.path, model) or ("", None)
    assert torch.equal(net.nats(torch.zeros(1, 16).long()), twin.nats(torch.zeros(1, 16).long()))
    assert sampler.load(tmp_path, model) is None


@pytest.mark.parametrize("damage", ["short", "other", "empty"])
def test_a_broken_network_is_a_codec_error_of_one_line(tmp_path: Path, damage: str) -> None:
    codec = with_sampler(tmp_path / "made", "hqa", HQA, "3bit-4x4")
    path, model = codec.card.path / sampler.FILE, codec.system.model  # type: ignore[union-attr]
    if damage == "other":
        sampler.save(Sampler(LEVELS, 8, 1), "3bit-4x4", codec.card.path)
    else:
        path.write_bytes(path.read_bytes()[: 100 if damage == "short" else 0])
    with pytest.raises(CodecError, match="not a sampler of this codec") as caught:
        sampler.load(codec.card.path, model)
    assert "\n" not in str(caught.value)


def test_sample_uses_it_at_its_rate_and_the_tables_at_others(tmp_path: Path) -> None:
    codec = with_sampler(tmp_path / "made", "hqa", HQA, "3bit-4x4")
    drawn = sample(codec, None, 24, 16, 5).pixels
    assert drawn.shape == (24, 16, 3)
    assert np.array_equal(drawn, sample(codec, "3bit-4x4", 24, 16, 5).pixels)
    assert not np.array_equal(drawn, sample(codec, None, 24, 16, 6).pixels)
    finer = sample(codec, "3bit-8x8", 24, 16, 5).pixels
    (codec.card.path / sampler.FILE).unlink()
    assert np.array_equal(finer, sample(codec, "3bit-8x8", 24, 16, 5).pixels)
    assert np.array_equal(finer, sample(codec, None, 24, 16, 5).pixels)  # the card's default


def test_the_command_draws_with_it(tmp_path: Path) -> None:
    codec = with_sampler(tmp_path / "made", "hqa", HQA, "3bit-4x4")
    out = tmp_path / "drawn.png"
    result = CliRunner().invoke(
        program, ["sample", str(codec.card.path), "-n", "4", "-o", str(out), "--device", "cpu"]
    )
    assert result.exit_code == 0, result.output
    with Image.open(out) as sheet:
        assert sheet.width >= 32
    (codec.card.path / sampler.FILE).write_bytes(b"")
    result = CliRunner().invoke(
        program, ["sample", str(codec.card.path), "-o", str(tmp_path / "b.png")]
    )
    assert result.exit_code != 0 and "Traceback" not in result.output


def test_a_prefix_is_completed_with_the_codes_that_the_file_has(tmp_path: Path) -> None:
    """PQ-VAE, table 3: the rest is drawn given the first codes; without a seed it stays zero."""
    codec = with_sampler(tmp_path / "made", "pqvae", PROGRESSIVE, "3bit-4")
    system = codec.system
    data = compress(codec, Picture(photo(32, 32)), "3bit-2").data
    plain = decompress(codec, data).pixels
    first, same, other = (
        decompress(codec, data, choices=Choices(seed=seed)).pixels for seed in (1, 1, 2)
    )
    assert np.array_equal(first, same)
    assert not np.array_equal(first, plain) or not np.array_equal(other, plain)
    whole = compress(codec, Picture(photo(32, 32)), "3bit-4").data
    assert np.array_equal(
        decompress(codec, whole).pixels, decompress(codec, whole, choices=Choices(seed=1)).pixels
    )
    net = (sampler.load(codec.card.path, system.model) or ("", None))[1]  # type: ignore[union-attr]
    assert net is not None
    assert net.continues(["codes"], [torch.zeros(1, 2, 1, 1)])
    assert not net.continues(["codes"], [torch.zeros(1, 5, 1, 1)])
    assert not net.continues(["other"], [torch.zeros(1, 2, 1, 1)])


def test_withheld_levels_are_drawn_after_those_that_a_file_has(tmp_path: Path) -> None:
    shape = DQAEConfig(side=16, width=8, blocks=0, dim=2, columns=2, sizes=(8, 4), withhold=0.5)
    codec = with_sampler(tmp_path / "made", "dqae", shape, "3bit")
    data = compress(codec, Picture(photo(16, 16)), "3bit-2x2").data
    drawn = [decompress(codec, data, choices=Choices(seed=seed)).pixels for seed in (1, 2)]
    assert not np.array_equal(*drawn)
