"""The GPU of a process that trains."""

from collections.abc import Sequence

import tensorflow as tf

from habitus.errors import TrainingError


def use_one_gpu(index: int | None = None) -> None:
    """Let TensorFlow see one GPU of this machine and take of its memory only what it needs.

    To be called before TensorFlow computes anything. Without a GPU there is nothing to do.

    Args:
        index: Which one, counted round; none for the first, or whichever this process has used.

    Raises:
        TrainingError: This process has used another one.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return
    gpu = gpus[(index or 0) % len(gpus)]
    try:
        tf.config.set_visible_devices(gpu, "GPU")
        tf.config.experimental.set_memory_growth(gpu, True)
    except RuntimeError as error:
        # In a notebook that has computed before, say: the memory is taken, and a GPU as good.
        if index is None:
            return
        raise TrainingError(
            gpu.name,
            f"TensorFlow has begun to compute before it was chosen ({error})",
            "Train in a process that has not used TensorFlow.",
        ) from error


def gpu_for(addresses: Sequence[str], local_rank: int) -> int:
    """Which GPU a process of several takes: the first that Spark gave it, else one by its rank.

    Args:
        addresses: What Spark gave this process; nothing where it knows of no GPUs.
        local_rank: Of this process among those of the ring on its machine.

    Raises:
        TrainingError: Spark calls GPUs by something else than numbers.
    """
    if not addresses:
        return local_rank
    if not addresses[0].isdecimal():
        raise TrainingError(
            f"GPU {addresses[0]!r}, which Spark gave to a worker",
            "it is not called by its number",
            "Let spark.executor.resource.gpu.discoveryScript print numbers, counted from 0.",
        )
    return int(addresses[0])
