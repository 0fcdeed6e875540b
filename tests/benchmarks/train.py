"""How fast the behaviour model learns: `make bench-train`.

Sequences of a simulated shop, from the files of the lake through Petastorm to the step. Each part
is measured in a process of its own, TIMES times in turn with the others; the run of median speed
counts. The rival is the bare Keras step: `train_on_batch` of the same model on the same batches,
ready in memory. Rates count what is judged, not padding.

`python tests/benchmarks/train.py --tried` measures the step, and rings of one and two, with
settings that we keep or not, and Keras' own step in TensorFlow and in JAX, TIMES_TRIED times.
"""

import sys

from _figures import Figure, at_least, at_most, publish
from _training import EPOCHS, PARTS, SETTLED, measured, prepare

USERS, SMALL_USERS = 26_000, 2_600  # shoppers; two million events
TIMES, TIMES_TRIED = 5, 3
ONCE = ("matrix_rate", "memory")
# What else the step was tried with: environment, and what `trainer_of` is told.
TRIED: dict[str, tuple[dict[str, str], str]] = {
    "as it is": ({}, ""),
    "any order of sums": ({}, "not deterministic"),
    "XLA, once it has compiled": ({}, "xla"),
    "bfloat16": ({}, "mixed_bfloat16"),
    "without oneDNN": ({"TF_ENABLE_ONEDNN_OPTS": "0"}, ""),
    "one thread": ({"OMP_NUM_THREADS": "1"}, "one thread"),
}
# The same of a ring of one, and of two.
TRIED_OF_ONE: dict[str, tuple[dict[str, str], str]] = {
    "as it is": ({}, ""),
    "gradients gathered for .1 ms": ({"HOROVOD_CYCLE_TIME": "0.1"}, ""),
}
TRIED_OF_TWO: dict[str, tuple[dict[str, str], str]] = {
    "as it is": ({}, ""),
    "gradients gathered for .1 ms": ({"HOROVOD_CYCLE_TIME": "0.1"}, ""),
    "gradients of 16 bits": ({}, "16-bit gradients"),
    "gradients sent one by one": ({"HOROVOD_FUSION_THRESHOLD": "0"}, ""),
    "gradients gathered for 10 ms": ({"HOROVOD_CYCLE_TIME": "10"}, ""),
    "one thread each": ({"OMP_NUM_THREADS": "1"}, "one thread"),
}
# The same of Keras' own step, on the batches of a few lengths.
TRIED_OF_KERAS: dict[str, tuple[dict[str, str], str]] = {
    "in TensorFlow": ({}, "compiled"),
    "in JAX": ({"KERAS_BACKEND": "jax"}, "compiled"),
}
TRIES = {
    "alone": ("", TRIED),
    "bare": ("Keras' own step, ", TRIED_OF_KERAS),
    "in_a_ring_of_one": ("a ring of one, ", TRIED_OF_ONE),
    "fed_to_two": ("a ring of two, ", TRIED_OF_TWO),
}


def rate(found: dict[str, float]) -> float:
    """Events judged a second."""
    return found["events"] / found["seconds"]


def in_turn(
    runs: dict[str, tuple[str, dict[str, str]]], times: int, path: str
) -> dict[str, dict[str, float]]:
    """Of each part in its environment, the run of median speed."""
    rounds = [
        {name: measured(part, path, environment) for name, (part, environment) in runs.items()}
        for _ in range(times)
    ]
    return {name: sorted((one[name] for one in rounds), key=rate)[times // 2] for name in runs}


def figures(path: str) -> list[Figure]:
    """All that is measured."""
    found = {part: measured(part, path) for part in ONCE}
    found |= in_turn({part: (part, {}) for part in PARTS if part not in ONCE}, TIMES, path)
    whole, keras_alone = found["fed"], rate(found["bare"])
    arithmetic = found["bare"]["flops"] / found["matrix_rate"]["rate"]
    padded = 1 - whole["events"] / whole["positions"]
    through_horovod = rate(found["in_a_ring_of_one"]) / rate(found["alone"])
    return [
        Figure("events a second", round(rate(whole)), round(keras_alone)),
        Figure("sequences a second", round(whole["units"] / whole["seconds"])),
        at_least(
            "from the lake's files against the bare Keras step", rate(whole) / keras_alone, 0.9
        ),
        at_most("share of the time that waits for data", whole["waited"] / whole["seconds"], 0.05),
        at_least("one rank of Horovod against none", through_horovod, 0.95),
        at_most("padded share", padded, 0.1),
        Figure("two ranks against one, on two cores", rate(found["fed_to_two"]) / rate(whole)),
        Figure(
            "arithmetic against the fp32 matrix rate",
            arithmetic * rate(found["alone"]),
            arithmetic * keras_alone,
        ),
        Figure(f"MB more after {EPOCHS} epochs than after {SETTLED}", found["memory"]["growth"]),
        Figure(f"MB more after {SETTLED} epochs than after 2", found["memory"]["rise"]),
        Figure(f"MB after {SETTLED} epochs", found["memory"]["at first"]),
    ]


def tried(path: str) -> list[Figure]:
    """Our step and Keras' own on batches that are ready, and rings, in other ways."""
    runs = {
        of_part + name: (part, {**environment, "TRIED": how})
        for part, (of_part, ways) in TRIES.items()
        for name, (environment, how) in ways.items()
    }
    found = in_turn(runs, TIMES_TRIED, path)
    return [Figure(f"events a second, {name}", round(rate(one))) for name, one in found.items()]


def main() -> None:
    """Print the table; `--small` takes a tenth of the shoppers."""
    path = prepare(SMALL_USERS if "--small" in sys.argv else USERS)
    if "--tried" in sys.argv:
        publish("train-tried", tried(path))
    else:
        publish("train", figures(path))


if __name__ == "__main__":
    main()
