"""The prior of a network: the same classes everywhere, and codes that come back."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vqcodec import fixedpoint
from vqcodec.autoencoders.grid_codec import GridCodec, load_priors, prior_tensors
from vqcodec.autoencoders.rrvq import RRVQ, RRVQConfig
from vqcodec.autoencoders.rrvq.exact import ExactTopDown
from vqcodec.errors import FormatError
from vqcodec.priors import embedding
from vqcodec.priors.embedding import EmbeddingPrior, Remembering, cluster, nearest
from vqcodec.priors.grid import pack
from vqcodec.priors.histogram import integer_rows
from vqcodec.rangecoder import RangeDecoder, RangeEncoder, ideal_bits

CONFIG = RRVQConfig(
    side=16, grids=(1, 2, 2, 4), sizes=(4, 6, 5, 8), embedding=6, width=12, fine=8, blocks=2
)
SQUARES = 48
Codes = dict[str, np.ndarray]


def trained(seed: int = 0, quantizer: str = "responsibility") -> RRVQ:
    """No weight is trivial; as shipped."""
    torch.manual_seed(seed)
    model = RRVQ(replace(CONFIG, quantizer=quantizer)).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.03 * torch.randn(p.shape))
        model.begin(0, torch.rand(64, 3, 16, 16), torch.Generator().manual_seed(seed))
        for p in model.top_down.parameters():
            p.copy_(fixedpoint.round_weights(p))
    return model


@pytest.fixture(scope="module", params=["responsibility", "ema", "sfdiveq"])
def model(request: pytest.FixtureRequest) -> RRVQ:
    return trained(quantizer=request.param)


@pytest.fixture(scope="module")
def network(model: RRVQ) -> ExactTopDown:
    return model.network()


@pytest.fixture(scope="module")
def codes(model: RRVQ, network: ExactTopDown) -> Codes:
    """Of the prior itself, so that it has something to say."""
    drawn: list[Tensor] = []
    generator = torch.Generator().manual_seed(3)

    def choose(layer: int, d: Tensor, e_p: Tensor) -> Tensor:
        drawn.append(model.codebook(layer).sample(e_p, generator))
        return model.codebook(layer).decode(drawn[-1])

    with torch.no_grad():
        model._descend(SQUARES, choose)
    return {name: c.numpy() for name, c in zip(network.names, drawn, strict=True)}


@pytest.fixture(scope="module")
def priors(network: ExactTopDown, codes: Codes) -> dict[str, EmbeddingPrior]:
    return embedding.fit(network, codes, classes=16)


def embeddings(network: ExactTopDown, codes: Codes) -> list[Tensor]:
    walk = network.walk(len(codes["z1"]))
    found = []
    for name in network.names:
        found.append(walk.embedding())
        walk.put(codes[name])
    return found


def written(priors: dict[str, EmbeddingPrior], codes: Codes) -> tuple[list[bytes], float]:
    known, payloads, bits = Remembering(), [], 0.0
    for name, prior in priors.items():
        coder = RangeEncoder()
        bits += prior.encode(coder, codes[name], known)
        payloads.append(coder.finish())
        known[name] = codes[name]
    return payloads, bits


def read(priors: dict[str, EmbeddingPrior], payloads: list[bytes], codes: Codes) -> Codes:
    known = Remembering()
    for (name, prior), payload in zip(priors.items(), payloads, strict=True):
        known[name], _ = prior.decode(RangeDecoder(payload), codes[name].shape, known)
    return known


# --- exact arithmetic -----------------------------------------------------------------------------


@torch.no_grad()
def test_the_exact_network_is_the_float_one_but_for_rounding(
    model: RRVQ, network: ExactTopDown, codes: Codes
) -> None:
    floats: list[Tensor] = []

    def choose(layer: int, d: Tensor, e_p: Tensor) -> Tensor:
        floats.append(e_p.permute(0, 2, 3, 1))
        given = torch.from_numpy(codes[network.names[layer]])
        return model.codebook(layer).decode(given)

    model._descend(SQUARES, choose)
    for exact, e_p in zip(embeddings(network, codes), floats, strict=True):
        units = exact.double() * 2**10
        assert torch.equal(units, units.round())
        assert (exact - e_p).abs().max() < 0.02 * e_p.abs().max()
    assert floats[-1].std(0).max() > 16 * 2**-10  # squares do differ, and not by rounding


def test_embeddings_are_the_same_for_any_threads_batch_and_layout(
    network: ExactTopDown, codes: Codes, two_threads: None
) -> None:
    expected = embeddings(network, codes)
    torch.set_num_threads(1)
    for size in (1, 16):
        parts = [
            embeddings(network, {n: c[i : i + size] for n, c in codes.items()})
            for i in range(0, SQUARES, size)
        ]
        for whole, same in zip(expected, zip(*parts, strict=True), strict=True):
            assert torch.equal(whole, torch.cat(same))
    strided = {n: c.repeat(2, 0)[::2] for n, c in codes.items()}
    fortran = {n: np.asfortranarray(c).astype(np.int32) for n, c in codes.items()}
    for other in (strided, fortran):
        for whole, same in zip(expected, embeddings(network, other), strict=True):
            assert torch.equal(whole, same)


def test_embeddings_are_the_same_for_any_order_of_summation(model: RRVQ, codes: Codes) -> None:
    """The same network with its channels renumbered adds them up in another order."""
    expected = embeddings(model.network(), codes)
    other = trained(quantizer=model.config.quantizer)
    order = torch.randperm(CONFIG.width, generator=torch.Generator().manual_seed(1))
    shuffled = (4 * order[:, None] + torch.arange(4)).flatten()  # of 4 * width channels
    with torch.no_grad():
        other.top_down.start.copy_(other.top_down.start[order])
        for rung in other.top_down.rungs:
            for block in rung.blocks:
                block.first.weight.copy_(block.first.weight[:, order])
                block.second.weight.copy_(block.second.weight[order])
                block.second.bias.copy_(block.second.bias[order])
            if rung.up is not None:
                rung.up.conv.weight.copy_(rung.up.conv.weight[shuffled][:, order])
                rung.up.conv.bias.copy_(rung.up.conv.bias[shuffled])
            rung.pstrap.weight.copy_(rung.pstrap.weight[:, order])
            rung.pladder.weight.copy_(rung.pladder.weight[order])
            rung.pladder.bias.copy_(rung.pladder.bias[order])
    for a, b in zip(expected, embeddings(other.network(), codes), strict=True):
        assert torch.equal(a, b)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 40), st.integers(2, 20))
def test_the_nearest_centroid_is_found_in_integers(seed: int, j: int, d: int, bits: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.integers(-(2**bits), 2**bits, (50, d), endpoint=True)
    centroids = rng.integers(-(2**bits), 2**bits, (j, d), endpoint=True).astype(np.int32)
    centroids[-1] = centroids[0]  # a tie, which the first wins
    distances = ((rows[:, None] - centroids) ** 2).sum(-1)
    assert distances.dtype == np.int64
    found = nearest(torch.from_numpy(rows) / 2**10, centroids)
    assert np.array_equal(found, distances.argmin(1))


def test_distances_are_exact_up_to_the_bounds() -> None:
    d = embedding.MAX_DIMENSIONS
    rows = torch.full((1, d), -(2.0**10))
    centroids = np.full((2, d), 2**20, np.int32)
    centroids[1, 0] -= 1  # nearer by one unit in one of 2048 dimensions
    assert nearest(rows, centroids).tolist() == [1]


# --- codes ----------------------------------------------------------------------------------------


def test_codes_come_back_and_cost_their_ideal_bits(
    priors: dict[str, EmbeddingPrior], codes: Codes
) -> None:
    payloads, bits = written(priors, codes)
    decoded = read(priors, payloads, codes)
    for name, c in codes.items():
        assert decoded[name].dtype == np.int64 and np.array_equal(decoded[name], c)
    assert bits - 1 < 8 * sum(map(len, payloads)) < bits + 8 * len(payloads)


def test_walking_anew_for_every_level_gives_the_same(
    priors: dict[str, EmbeddingPrior], codes: Codes
) -> None:
    payloads, _ = written(priors, codes)
    for (name, prior), payload in zip(priors.items(), payloads, strict=True):
        coder = RangeEncoder()
        prior.encode(coder, codes[name], codes)
        assert coder.finish() == payload
        again, _ = prior.decode(RangeDecoder(payload), codes[name].shape, codes)
        assert np.array_equal(again, codes[name])


def test_large_pictures_are_walked_in_parts_and_give_the_same(
    priors: dict[str, EmbeddingPrior], codes: Codes, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = written(priors, codes)
    sizes: set[int] = set()
    walk = ExactTopDown.walk
    monkeypatch.setattr(
        ExactTopDown, "walk", lambda self, squares: sizes.add(squares) or walk(self, squares)
    )
    monkeypatch.setattr(embedding, "REMEMBERED", 20)
    assert written(priors, codes) == expected
    assert sizes == {20, SQUARES - 40}
    wrong = {**codes, "z4": codes["z4"][:-1]}
    with pytest.raises(ValueError):
        priors["z1"].encode(RangeEncoder(), codes["z1"], wrong)


def test_a_walk_goes_on_where_it_stopped(
    priors: dict[str, EmbeddingPrior], codes: Codes, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []
    walk = ExactTopDown.walk
    monkeypatch.setattr(
        ExactTopDown, "walk", lambda self, squares: started.append(1) or walk(self, squares)
    )
    payloads, _ = written(priors, codes)
    read(priors, payloads, codes)
    assert len(started) == 2  # one to write, one to read


def test_tensors_make_the_prior_again(
    network: ExactTopDown, priors: dict[str, EmbeddingPrior], codes: Codes
) -> None:
    again = {
        name: EmbeddingPrior.from_tensors(network, level, prior.tensors())
        for level, (name, prior) in enumerate(priors.items())
    }
    assert written(again, codes) == written(priors, codes)
    with pytest.raises(ValueError):
        EmbeddingPrior.from_tensors(network, 0, {"centroids": np.zeros((1, 6), np.int32)})


def test_no_codes_cost_less_than_the_least_bits(
    priors: dict[str, EmbeddingPrior], codes: Codes
) -> None:
    for name, prior in priors.items():
        assert (
            0
            < prior.least_bits(codes[name].shape)
            <= prior.encode(RangeEncoder(), codes[name], codes)
        )


def test_the_prior_is_worth_more_than_a_histogram(
    network: ExactTopDown, priors: dict[str, EmbeddingPrior], codes: Codes, model: RRVQ
) -> None:
    _, bits = written(priors, codes)
    own, flat = 0.0, 0.0
    for level, (name, e_p) in enumerate(
        zip(network.names, embeddings(network, codes), strict=True)
    ):
        c, size = codes[name].ravel(), model.codebook(level).sizes[0]
        rows = network.probabilities(level, e_p.flatten(0, 2).double())
        own -= float(rows[np.arange(len(c)), c].log2().sum())
        flat += ideal_bits(c, integer_rows(np.bincount(c, minlength=size)))
    assert bits < flat
    # Codes drawn from the network cost what it says, less what the counts have learnt by heart.
    assert bits < 1.02 * own


@pytest.mark.parametrize("level", ["z4", "z2", "z1"])
def test_codes_and_knowledge_that_do_not_fit_end_in_value_errors(
    priors: dict[str, EmbeddingPrior], codes: Codes, level: str
) -> None:
    prior, c = priors[level], codes[level]
    wrong = [(c + 28, codes), (c - 28, codes), (c.repeat(2, 1), codes)]
    if level != "z4":
        wrong += [
            (c[:, :, :1], codes),
            (c, {}),
            (c[:5], codes),
            (c, {**codes, "z4": codes["z4"] + 28}),
            (c, {**codes, "z4": codes["z4"].repeat(2, 2)}),
        ]
    for symbols, known in wrong:
        with pytest.raises(ValueError):
            prior.encode(RangeEncoder(), symbols, known)


@settings(max_examples=60, deadline=None)
@given(payload=st.binary(max_size=40), level=st.integers(0, 3))
def test_damaged_payloads_decode_or_are_format_errors(
    model: RRVQ, priors: dict[str, EmbeddingPrior], codes: Codes, payload: bytes, level: int
) -> None:
    name = list(priors)[level]
    try:
        decoded, bits = priors[name].decode(RangeDecoder(payload), codes[name].shape, codes)
    except FormatError:
        return
    assert decoded.shape == codes[name].shape and math.isfinite(bits)
    assert 0 <= decoded.min() <= decoded.max() < model.codebook(level).sizes[0]


# --- fitting --------------------------------------------------------------------------------------


def test_clusters_are_found() -> None:
    generator = torch.Generator().manual_seed(0)
    middles = torch.tensor([[0.0, 0.0], [8.0, 1.0], [-3.0, 9.0]])
    rows = middles.repeat(100, 1) + 0.1 * torch.randn(300, 2, generator=generator)
    rows = fixedpoint.round_activations(rows.double() * 2**10) / 2**10
    found = cluster(rows, 3) / 2**10
    assert found.shape == (3, 2)
    assert np.abs(found[:, None] - middles.numpy()).max(-1).min(0).max() < 0.1
    assert len(cluster(rows[:1].repeat(5, 1), 4)) == 1


def test_centroids_and_tables_have_to_fit(network: ExactTopDown) -> None:
    tables, centroids = pack(np.ones((3, 6))), np.zeros((3, 6), np.int32)
    EmbeddingPrior(network, 1, centroids, tables)
    for j, packed in (
        (centroids[:2], tables),
        (centroids + 2**21, tables),
        (centroids[:0], tables[:0]),
        (np.zeros((257, 6), np.int32), pack(np.ones((257, 6)))),
        (np.zeros((3, embedding.MAX_DIMENSIONS + 1), np.int32), tables),
    ):
        with pytest.raises(ValueError):
            EmbeddingPrior(network, 1, j, packed)


# --- in files -------------------------------------------------------------------------------------


def test_sections_decode_to_the_codes_and_any_prefix_to_a_preview(
    model: RRVQ, priors: dict[str, EmbeddingPrior]
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (23, 40, 3), np.uint8)
    codec = GridCodec(model, dict(priors), torch.device("cpu"))
    coded = codec.encode(pixels, 0)
    assert len(coded.sections) == 4 and coded.latent[0].shape == (6, 1, 1, 1)
    tensors = prior_tensors(codec.priors)
    again = GridCodec(model, load_priors(model, tensors), torch.device("cpu"))
    for n in range(1, 5):
        decoded = again.decode(coded.sections[:n], 23, 40, 0)
        for mine, other in zip(decoded, coded.latent, strict=False):
            assert np.array_equal(mine, other)
        assert [band.shape for band in again.bands(decoded, 23, 40, 0)] == [(23, 40, 3)]
