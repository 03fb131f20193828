"""A codec as the browser decoder in ``web/`` takes it: two files, named by number and hash.

``3-e4c36877.safetensors`` has the integers of the exact prior, the linear synthesis of the first
slice for quick drafts, and the sizes of all slices in the header; ``3-e4c36877.onnx`` is the
synthesis, for grids of any size. The onnx package makes it.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from vqcodec import zoo
from vqcodec.autoencoders.ladder.config import LadderConfig
from vqcodec.card import Card
from vqcodec.errors import CodecError, OutputError
from vqcodec.files import atomic_write, make_folder

OPSET, IR = 17, 8  # what onnxruntime has read since 2022
UNUSED = "analysis.", "hyper_analysis.", "synthesis."  # not of the prior that decodes
Tensors = dict[str, np.ndarray]


def export_web(name: str, folder: Path, force: bool = False) -> list[Path]:
    """Write the files of a codec, an id or a folder, and return their paths.

    Raises CodecError for a codec of another system, or without the package onnx.
    """
    from safetensors.numpy import load, save

    card = zoo.find(name)
    if card.system != "ladder":
        raise CodecError(f"{card.id}: web/ decodes the system ladder, and not {card.system}")
    zoo.load(card, "cpu")  # refuses what is damaged, or not exact
    tensors = load((card.path / "weights.safetensors").read_bytes())
    prior = {name: values for name, values in tensors.items() if not name.startswith(UNUSED)}
    config = LadderConfig.from_dict(card.shape)
    prior["linear"] = tensors["synthesis.linear"][: config.slices[0]].astype(np.float32)
    contents = {
        "safetensors": save(prior, {"vqcodec": json.dumps(_about(card, config))}),
        "onnx": synthesis(tensors),
    }
    make_folder(folder)
    written = []
    for suffix, content in contents.items():
        path = folder / f"{card.number}-{card.hash.hex()}.{suffix}"
        if path.exists() and not force:
            raise OutputError(f"{path}: exists; --force overwrites")
        with atomic_write(path, force=force) as file:
            file.write(content)
        written.append(path)
    return written


def _about(card: Card, config: LadderConfig) -> dict[str, Any]:
    kept = "slices", "checkerboard", "coded_from", "tuned", "weighted"
    return {"id": card.id, "title": card.title, **{name: getattr(config, name) for name in kept}}


def synthesis(tensors: Tensors) -> bytes:
    """The network of the pixels as an ONNX model.

    Of ``latent`` (h, w, C) in steps, ``steps`` (C,) and ``condition`` (k,), what FiLM layers see,
    it makes ``pixels`` (3, 16h, 16w) uint8. Weights are stored in float16, as the codec has them.
    """
    try:
        from onnx import TensorProto, helper
    except ImportError:
        raise CodecError("the package onnx is missing: pip install onnx") from None

    graph = _Graph()
    channels = len(tensors["synthesis.linear"])
    std = (tensors["units"][0] / 256).astype(np.float32)
    weights = {
        name.removeprefix("synthesis."): values.astype(np.float16)
        for name, values in tensors.items()
        if name.startswith("synthesis.")
    }

    def conv(name: str, x: str) -> str:
        weight = weights[f"{name}.weight"]
        inputs = [x, *(graph.weight(f"{name}.{part}", weights) for part in ("weight", "bias"))]
        return graph.node("Conv", inputs, pads=[weight.shape[2] // 2] * 4)

    def shuffle(x: str, side: int) -> str:
        return graph.node("DepthToSpace", [x], blocksize=side, mode="CRD")

    def block(name: str, x: str) -> str:
        film = weights[f"{name}.film.linear.weight"]
        n = len(film) // 2
        shape = graph.constant(np.array([1, 2 * n, 1, 1]))
        values = graph.node(
            "MatMul", [graph.weight(f"{name}.film.linear.weight", weights), "condition"]
        )
        values = graph.node("Reshape", [values, shape])
        ends = [graph.constant(np.array([end])) for end in (0, n, 2 * n)]
        axis = graph.constant(np.array([1]))
        scale = graph.node("Slice", [values, ends[0], ends[1], axis])
        shift = graph.node("Slice", [values, ends[1], ends[2], axis])
        one = graph.constant(np.array(1, np.float32))
        y = graph.node("Mul", [conv(f"{name}.first", x), graph.node("Add", [scale, one])])
        y = graph.node("LeakyRelu", [graph.node("Add", [y, shift])], alpha=1 / 8)
        return graph.node("Add", [x, conv(f"{name}.second", y)])

    y = graph.node("Mul", ["latent", "steps"])
    y = graph.node("Unsqueeze", [y, graph.constant(np.array([0]))])
    y = graph.node("Transpose", [y], perm=[0, 3, 1, 2])
    # The linear part is a convolution of 1x1, too: (channels, 768) to (768, channels, 1, 1)
    weights["linear.weight"] = weights["linear"].T[:, :, None, None]
    weights["linear.bias"] = np.full(768, 128, np.float16)  # 127.5, and a half to round by cutting
    linear = shuffle(conv("linear", y), 16)
    x = conv("enter", graph.node("Div", [y, graph.constant(std.reshape(1, channels, 1, 1))]))
    x = shuffle(conv("up", block("coarse", x)), 2)
    for i in range(sum(name.endswith("first.weight") for name in weights) - 1):
        x = block(f"fine.{i}", x)
    network = graph.node("Mul", [shuffle(conv("leave", x), 8), graph.constant(np.float32(32))])
    pixels = graph.node("Add", [linear, network])
    limits = [graph.constant(np.array(end, np.float32)) for end in (0, 255)]
    pixels = graph.node("Clip", [pixels, *limits])
    pixels = graph.node("Cast", [pixels], to=TensorProto.UINT8)
    graph.node("Squeeze", [pixels, graph.constant(np.array([0]))], output="pixels")

    conditions = weights["coarse.film.linear.weight"].shape[1]
    float32, uint8 = TensorProto.FLOAT, TensorProto.UINT8
    inputs = [
        helper.make_tensor_value_info("latent", float32, ["h", "w", channels]),
        helper.make_tensor_value_info("steps", float32, [channels]),
        helper.make_tensor_value_info("condition", float32, [conditions]),
    ]
    outputs = [helper.make_tensor_value_info("pixels", uint8, [3, "height", "width"])]
    made = helper.make_graph(graph.nodes, "synthesis", inputs, outputs, graph.stored)
    model = helper.make_model(
        made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR, producer_name="vqcodec"
    )
    return bytes(model.SerializeToString())


class _Graph:
    """Nodes and stored tensors of an ONNX graph, which names them by number."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.stored: list[Any] = []

    def node(self, kind: str, inputs: list[str], output: str | None = None, **how: Any) -> str:
        """Returns the name of its output."""
        from onnx import helper

        output = output or f"{kind}.{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **how))
        return output

    def constant(self, values: Any) -> str:
        from onnx import numpy_helper

        name = f"stored.{len(self.stored)}"
        self.stored.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def weight(self, name: str, weights: Tensors) -> str:
        """Of a float16 tensor, in float32: the runtime converts it once."""
        return self.node("Cast", [self.constant(np.ascontiguousarray(weights[name]))], to=1)
