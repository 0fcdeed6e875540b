"""An ONNX graph that is written down node by node."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from habitus.domain.models.shape import Array, BehaviourShape

OPSET, IR_VERSION = 17, 8


class Graph:
    """Nodes and constants, named as they are added.

    Args:
        weights: A Keras model's weights by layer and name, which the nodes take theirs from.
    """

    def __init__(self, weights: Mapping[str, Array]) -> None:
        self.weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, value: Any) -> str:
        """Add a constant; its name."""
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def add(self, operator: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Add an operator with one output; the output's name."""
        name = output or f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def flat(self, value: str, width: int, output: str | None = None) -> str:
        """[B, T, I] of this width I as [B * T, I]."""
        return self.add("Reshape", value, self.constant([-1, width]), output=output)

    def split(self, value: str, sizes: list[int], names: list[str], axis: int = 2) -> list[str]:
        """Cut along the last axis into parts of these sizes and names."""
        parts = self.constant(np.asarray(sizes, dtype=np.int64))
        self.nodes.append(helper.make_node("Split", [value, parts], names, axis=axis))
        return names

    def dense(self, value: str, layer: str) -> str:
        """A dense layer without activation."""
        product = self.add("MatMul", value, self.constant(self.weights[f"{layer}/kernel"]))
        return self.add("Add", product, self.constant(self.weights[f"{layer}/bias"]))

    def to_bytes(
        self, name: str, inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto]
    ) -> bytes:
        """All of it as a model of this name, checked to be well-formed."""
        model = helper.make_model(
            helper.make_graph(self.nodes, name, inputs, outputs, self.constants),
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="habitus",
        )
        onnx.checker.check_model(model)
        content: bytes = model.SerializeToString()
        return content


def units_of(shape: BehaviourShape) -> list[onnx.ValueInfoProto]:
    """The inputs `tokens` [B, T, F] int32 and `context` [B, C]."""
    tokens = ["units", "steps", len(shape.fields)]
    return [
        helper.make_tensor_value_info("tokens", TensorProto.INT32, tokens),
        floats("context", "units", shape.features),
    ]


def floats(name: str, *dimensions: str | int) -> onnx.ValueInfoProto:
    """An input or output of floats."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, dimensions)
