"""Where a scoring process runs its ONNX models, and what it refuses to run.

The operators of ONNX itself compute and no more. Those of other domains are code of whoever offers
them, and external data are files of whatever name stands in the graph: a model that training wrote
has neither.
"""

from collections.abc import Iterator

import onnx
import onnxruntime
from onnx import external_data_helper

# Where models run, the fastest first; ONNX Runtime offers those that it was built with.
_PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")
# The domains of ONNX's own operators; the first two are the same one.
_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})


def session_of(content: bytes) -> onnxruntime.InferenceSession:
    """A model that is ready to run, on a GPU where there is one.

    ONNX Runtime raises errors of many kinds where content is damaged.

    Raises:
        ValueError: The model has operators that are not ONNX's own, or data in other files.
    """
    _refuse_foreign(onnx.load_model_from_string(content))
    options = onnxruntime.SessionOptions()
    # Spark already runs one task per core.
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    offered = onnxruntime.get_available_providers()
    return onnxruntime.InferenceSession(
        content, options, providers=[name for name in _PROVIDERS if name in offered]
    )


def _refuse_foreign(model: onnx.ModelProto) -> None:
    if model.functions:
        raise ValueError(f"it brings an operator of its own, {model.functions[0].name!r}")
    for graph in _graphs(model.graph):
        for node in graph.node:
            if node.domain not in _DOMAINS:
                raise ValueError(f"operator {node.op_type!r} is of the domain {node.domain!r}")
        for tensor in _tensors(graph):
            if external_data_helper.uses_external_data(tensor):
                raise ValueError(f"the data of {tensor.name!r} are in another file")


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and those inside its operators, such as the branches of an `If`."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _graphs(inner)


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """The constants of a graph itself, and those of its operators."""
    yield from graph.initializer
    sparse = list(graph.sparse_initializer)
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            sparse += (attribute.sparse_tensor, *attribute.sparse_tensors)
    for tensor in sparse:
        yield from (tensor.values, tensor.indices)
