"""Which detector is the best: compared block by block, since one lucky week or user is no proof.

The best is the one with the highest average precision, on all kinds of anomaly together, in the
mean over blocks: of the test period's time, as long as each other, or of its users. Every other one
is behind it by the mean over blocks of the difference; the interval of that is a bootstrap over
blocks (Efron 1979), which keeps together what happens to all detectors at one time, or by one user.
One whose interval holds 0 may be as good.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from habitus.config import EvaluateSettings
from habitus.domain.evaluation import ALL, AVERAGE_PRECISION, NORMAL, Evaluation, counts
from habitus.domain.metrics import Figure, Values, average_precision
from habitus.setting_types import BlocksOf

BEHIND_BEST = "average_precision_behind_best"
REFITTED = "refitted_"  # begins the measures of detectors that are trained for each block anew


def compare_over_blocks(
    histogram: pd.DataFrame, detectors: Mapping[str, str], settings: EvaluateSettings, seed: int
) -> list[Evaluation]:
    """How far each detector is behind the best one, the best first; empty without anomalies.

    Args:
        histogram: The rows of `evaluation.histograms`.
        detectors: Detector name -> model id.
        settings: How many resamples, and which coverage.
        seed: Seed of the resamples.
    """
    names = sorted(detectors)
    precisions = precision_by_block(histogram, [detectors[name] for name in names])
    if not precisions.size:
        return []
    behind = precisions[precisions.mean(axis=1).argmax()] - precisions
    judged = histogram[histogram["model_id"] == detectors[names[0]]]
    of_kind = judged.groupby("kind")["units"].sum()
    found = [
        Evaluation(
            detectors[name],
            name,
            ALL,
            BEHIND_BEST,
            mean_over_blocks(behind[index], settings, seed),
            int(of_kind.get(ALL, 0) + of_kind.get(NORMAL, 0)),
            int(of_kind[ALL]),
        )
        for index, name in enumerate(names)
    ]
    return sorted(found, key=lambda one: (one.figure.value, one.detector))


def compare_refitted(
    histogram: pd.DataFrame, detectors: Mapping[str, str], settings: EvaluateSettings, seed: int
) -> list[Evaluation]:
    """The same of detectors that were trained for each block anew; then how precise each is.

    Args:
        histogram: The same, with detectors' names for the ids of models.
        detectors: Detector name -> id of the model that the figures are filed under.
        settings: How many resamples, and which coverage.
        seed: Seed of the resamples.
    """
    names = {name: name for name in detectors}
    behind = compare_over_blocks(histogram, names, settings, seed)
    precisions = precision_by_block(histogram, [one.detector for one in behind])
    means = [
        replace(one, measure=AVERAGE_PRECISION, figure=mean_over_blocks(found, settings, seed))
        for one, found in zip(behind, precisions, strict=True)
    ]
    return [
        replace(one, model_id=detectors[one.detector], measure=f"{REFITTED}{one.measure}")
        for one in (*behind, *means)
    ]


def verdict(compared: Sequence[Evaluation], of: BlocksOf) -> str:
    """Which detector is the best, and how sure that is, in a sentence.

    Args:
        compared: From `compare_over_blocks` or `compare_refitted`, at least one.
        of: What the blocks are of.
    """
    best, *others = (one for one in compared if one.measure.endswith(BEHIND_BEST))
    how = "" if best.measure == BEHIND_BEST else ", trained anew for each"
    sentence = f"best over blocks of {of}{how}: {best.detector}"
    if not others:
        return sentence
    ahead = others[0]
    sentence += f", ahead of {ahead.detector} by {ahead.figure.in_words()} of average precision"
    if np.isnan(ahead.figure.low):
        return f"{sentence}, in the only block that holds an anomaly, which proves nothing"
    as_good = [one.detector for one in others if one.figure.low <= 0]
    if as_good:
        sentence += f"; for all that is known as good: {', '.join(as_good)}"
    return sentence


def page(
    found: Sequence[Evaluation], compared: Sequence[Evaluation], remarks: Sequence[str]
) -> str:
    """The comparison as a page for people, to lie beside the cards of the models.

    Args:
        found: From `evaluation.evaluate`, of the detectors compared and perhaps of others; and what
            else is told of some.
        compared: From `compare_over_blocks`, at least one.
        remarks: The verdict, and further sentences.
    """
    names = list(dict.fromkeys(one.detector for one in (*compared, *found)))
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for one in found:
        rows.setdefault((one.kind, one.measure), {})[one.detector] = one.figure.in_words()
    lines = [
        f"| {kind} | {measure} | {' | '.join(by_name.get(name, '') for name in names)} |"
        for (kind, measure), by_name in rows.items()
    ]
    head = [f"| kind | measure | {' | '.join(names)} |", "| --- " * (len(names) + 2) + "|"]
    parts = [
        "# The detectors compared on the test period",
        *(f"{remark[0].upper()}{remark[1:]}." for remark in remarks),
        "\n".join([*head, *lines]),
    ]
    return "\n\n".join(parts) + "\n"


def precision_by_block(histogram: pd.DataFrame, model_ids: Sequence[str]) -> Values:
    """[M, B] average precision of M models in each of the B blocks that hold an anomaly."""
    blocks = sorted(histogram.loc[histogram["kind"] == ALL, "block"].unique())

    def precision(model_id: str, block: int) -> float:
        rows = histogram[(histogram["model_id"] == model_id) & (histogram["block"] == block)]
        return float(average_precision(counts(rows, ALL), counts(rows, NORMAL)))

    found = [[precision(model_id, block) for block in blocks] for model_id in model_ids]
    return np.array(found, dtype=np.float64)


def mean_over_blocks(values: Values, settings: EvaluateSettings, seed: int) -> Figure:
    """The mean of [B] values and the interval of it over blocks; the same draws for one seed.

    One block has no interval.
    """
    if len(values) == 1:
        return Figure(float(values[0]), np.nan, np.nan)
    rng = np.random.default_rng(seed)
    drawn = rng.choice(values, (settings.bootstrap, len(values))).mean(axis=1)
    tail = (1 - settings.confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Figure(float(values.mean()), float(low), float(high))
