"""Where a scoring process runs its ONNX models."""

import onnxruntime

# Where models run, the fastest first; ONNX Runtime offers those that it was built with.
_PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")


def session_of(content: bytes) -> onnxruntime.InferenceSession:
    """A model that is ready to run, on a GPU where there is one.

    ONNX Runtime raises errors of many kinds where content is damaged.
    """
    options = onnxruntime.SessionOptions()
    # Spark already runs one task per core.
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    offered = onnxruntime.get_available_providers()
    return onnxruntime.InferenceSession(
        content, options, providers=[name for name in _PROVIDERS if name in offered]
    )
