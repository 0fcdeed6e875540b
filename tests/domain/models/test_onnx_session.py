"""ONNX models run where it is fastest; with foreign operators, or data elsewhere, they do not."""

from pathlib import Path

import builders
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from habitus.domain.detectors.isolation_forest import IsolationForestDetector
from habitus.domain.models.onnx_session import session_of
from habitus.errors import ArtefactError

pytestmark = pytest.mark.plain

SHAPE = [1]


def model_of(
    *nodes: onnx.NodeProto, constants: tuple[onnx.TensorProto, ...] = (), domains: str = ""
) -> onnx.ModelProto:
    given = helper.make_tensor_value_info("given", TensorProto.FLOAT, SHAPE)
    made = helper.make_tensor_value_info("made", TensorProto.FLOAT, SHAPE)
    graph = helper.make_graph(list(nodes), "small", [given], [made], list(constants))
    opsets = [helper.make_opsetid("", 17), *(helper.make_opsetid(d, 1) for d in domains.split())]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def constant(name: str = "half") -> onnx.TensorProto:
    return numpy_helper.from_array(np.array([0.5], dtype=np.float32), name)


def elsewhere(folder: Path) -> onnx.TensorProto:
    """A constant whose data are in a file."""
    (folder / "data.bin").write_bytes(np.array([0.5], dtype=np.float32).tobytes())
    tensor = constant()
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="data.bin")
    return tensor


def test_a_model_of_onnxs_own_operators_runs() -> None:
    model = model_of(helper.make_node("Add", ["given", "half"], ["made"]), constants=(constant(),))
    given = np.array([2], dtype=np.float32)
    (made,) = session_of(model.SerializeToString()).run(None, {"given": given})
    assert made.tolist() == [2.5]


@pytest.mark.parametrize(
    ("offered", "asked"),
    [
        ("Azure CPU", "CPU"),
        ("Tensorrt CUDA CPU", "CUDA CPU"),
        ("CPU CUDA", "CUDA CPU"),
    ],
)
def test_a_model_runs_on_a_gpu_where_onnx_runtime_offers_one_and_else_on_the_processor(
    offered: str, asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a GPU cannot run is left to the processor, which is asked for last."""
    found: list[list[str]] = []

    def start(content: bytes, options: onnxruntime.SessionOptions, providers: list[str]) -> None:
        found.append(providers)

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: called(offered))
    monkeypatch.setattr(onnxruntime, "InferenceSession", start)
    add = helper.make_node("Add", ["given", "half"], ["made"])
    session_of(model_of(add, constants=(constant(),)).SerializeToString())
    assert found == [called(asked)]


def called(providers: str) -> list[str]:
    return [f"{name}ExecutionProvider" for name in providers.split()]


@pytest.mark.parametrize("domain", ["com.microsoft", "ai.onnx.contrib", "custom"])
def test_an_operator_of_another_domain_is_named(domain: str) -> None:
    node = helper.make_node("PyOp", ["given"], ["made"], domain=domain)
    with pytest.raises(ValueError, match=f"'PyOp' is of the domain '{domain}'"):
        session_of(model_of(node, domains=domain).SerializeToString())


def test_an_operator_within_a_branch_is_found() -> None:
    inner = helper.make_node("PyOp", ["given"], ["inner"], domain="custom")
    of_branch = helper.make_tensor_value_info("inner", TensorProto.FLOAT, SHAPE)
    branch = helper.make_graph([inner], "branch", [], [of_branch])
    node = helper.make_node("If", ["given"], ["made"], then_branch=branch, else_branch=branch)
    with pytest.raises(ValueError, match="'PyOp'"):
        session_of(model_of(node, domains="custom").SerializeToString())


def test_an_operator_that_the_model_defines_itself_is_named() -> None:
    model = model_of(helper.make_node("Identity", ["given"], ["made"]))
    body = [helper.make_node("Identity", ["x"], ["y"])]
    opsets = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function("ours", "Own", ["x"], ["y"], body, opsets))
    with pytest.raises(ValueError, match="'Own'"):
        session_of(model.SerializeToString())


def test_data_in_another_file_are_refused_even_if_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    add = helper.make_node("Add", ["given", "half"], ["made"])
    held = helper.make_node("Constant", [], ["half"], value=elsewhere(tmp_path))
    for model in (model_of(add, constants=(elsewhere(tmp_path),)), model_of(held, add)):
        with pytest.raises(ValueError, match="the data of 'half' are in another file"):
            session_of(model.SerializeToString())


def test_the_file_of_such_a_model_is_named() -> None:
    words = builders.vocabulary()
    files = IsolationForestDetector.fit(builders.units(50, 1, words), words, 7).to_files()
    node = helper.make_node("PyOp", ["given"], ["made"], domain="custom")
    strange = {"forest.onnx": model_of(node, domains="custom").SerializeToString()}
    with pytest.raises(ArtefactError, match=r"forest.onnx: .*'PyOp' is of the domain 'custom'"):
        IsolationForestDetector.from_files({**files, **strange}, words)
