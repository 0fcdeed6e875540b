"""The model in one process, on sessions in memory: what `score.py` compares the job with."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any

import numpy as np
import polars as pl
import psutil
import pyarrow as pa

from habitus.domain.models.onnx_session import session_of
from habitus.domain.scoring import score_batch
from habitus.domain.units import Units
from habitus.edges.artefacts import ArtefactStore
from habitus.edges.models import load_model
from habitus.loading import load_settings

SOME = 10_000  # sessions in memory, as many as Spark hands to a worker at once
TIMES = 3
AT_ONCE, KERAS_BATCHES = 256, 3
LEAKED, LEAK_UNITS = 10_000, 8  # batches, and units in each


def in_memory(root: str) -> tuple[Any, pa.Table]:
    """The model, and some of the sessions as the job's workers are given them."""
    model = load_model(root, ArtefactStore(root).current()["behaviour"])
    rows = pl.scan_delta(f"{root}/sequences").head(SOME).collect().to_arrow()
    everything = pa.array([["all"]] * len(rows))
    return model, rows.append_column("segment", everything).combine_chunks()


def units_of(root: str) -> tuple[Any, Any]:
    """The model, and some of the sessions as it reads them."""
    model, rows = in_memory(root)
    return model, Units.from_arrow(rows, model.vocabulary.field_names)


def worker(root: str) -> dict[str, float]:
    """Seconds of one core that a worker spends on some sessions: all, encoding, the model."""
    model, rows = in_memory(root)
    detector, (batch,) = model.detector, rows.to_batches()
    found = []
    for _ in range(TIMES + 1):
        start = time.process_time()
        units = Units.from_arrow(batch, model.vocabulary.field_names)
        ready = list(detector.model.by_length(units))
        encoded = time.process_time()
        for _, one in ready:
            detector.model.run(["surprise", "entropy", "variance"], one)
        modelled = time.process_time()
        judged = Units.from_arrow(batch, model.vocabulary.field_names)
        score_batch(batch, judged, model.model_id, detector, model.calibration)
        all_of_it = time.process_time() - modelled
        found.append((encoded - start, modelled - encoded, all_of_it))
    encoding, running, whole = (median(times) for times in zip(*found[1:], strict=True))
    return {"encoding": encoding, "model": running, "all": whole, "units": len(batch)}


def bare(root: str) -> dict[str, float]:
    """The exported model on ready batches, one thread for each core; what a position costs."""
    model, units = units_of(root)
    detector = model.detector
    ready = [
        {"tokens": batch.tokens, "context": batch.context}
        for _, batch in detector.model.by_length(units)
    ]
    cores = os.cpu_count() or 1
    sessions_of = [session_of(detector.to_files()["model.onnx"]) for _ in range(cores)]

    def score(number: int) -> None:
        for given in ready:
            sessions_of[number].run(["surprise", "entropy", "variance"], given)

    found = []
    with ThreadPoolExecutor(cores) as pool:
        for _ in range(TIMES + 1):
            before = time.perf_counter()
            list(pool.map(score, range(cores)))
            found.append(time.perf_counter() - before)
    kernels = [
        np.size(weight)
        for name, weight in detector.weights.items()
        if np.ndim(weight) == 2 and not name.startswith(("embedding", "context"))
    ]
    return {
        "seconds": median(found[1:]),
        "units": cores * len(units),
        "positions": cores * int(detector.shape.lengths(units).sum()),
        "flops": 2.0 * sum(kernels),  # a product and a sum for each weight
    }


def keras(root: str) -> dict[str, float]:
    """The Keras model called batch by batch, each as long as a session may be."""
    from habitus.domain.models import behaviour  # TensorFlow, which takes seconds to import

    model, units = units_of(root)
    shape = model.detector.shape
    net = behaviour.build(shape, 1)
    behaviour.set_weights(net, model.detector.weights)
    longest = load_settings().sessions.max_events
    found = []
    for number in range(KERAS_BATCHES + 1):
        some = units.take(np.arange(number * AT_ONCE, (number + 1) * AT_ONCE))
        before = time.perf_counter()
        tokens = np.zeros((len(some), longest, len(shape.fields)), dtype=np.int32)
        for index, name in enumerate(shape.fields):
            tokens[some.unit_of_event, some.position, index] = some.tokens[name]
        net.predict_on_batch([tokens, some.context[:, list(shape.columns)]])
        found.append(time.perf_counter() - before)
    return {"seconds": median(found[1:]), "units": AT_ONCE}


def memory(root: str) -> dict[str, float]:
    """MB that a process grows by over 10,000 batches, from the first tenth of them on.

    Each goes a worker's way, from the rows that Spark hands over to those that it is handed back.
    """
    model, rows = in_memory(root)
    (whole,) = rows.to_batches()
    process, random, held = psutil.Process(), np.random.default_rng(1), []
    for number in range(LEAKED):
        batch = whole.take(pa.array(random.integers(0, len(whole), LEAK_UNITS)))
        units = Units.from_arrow(batch, model.vocabulary.field_names)
        score_batch(batch, units, model.model_id, model.detector, model.calibration)
        if number + 1 in (LEAKED // 10, LEAKED):
            held.append(process.memory_info().rss / 1e6)
    return {"at first": held[0], "growth": held[1] - held[0]}
