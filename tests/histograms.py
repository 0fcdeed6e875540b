"""Histograms of scores, as `evaluate` counts them, of which average precision is known."""

import numpy as np
import pandas as pd

from habitus.domain.evaluation import ALL, NORMAL


def histogram(places: dict[str, list[int]]) -> pd.DataFrame:
    """Of each model and block one anomaly, which comes at that place, and nine normal units."""
    bins = np.arange(10)[::-1]
    rows = [
        pd.DataFrame({"kind": np.where(bins == 10 - place, ALL, NORMAL), "bin": bins}).assign(
            model_id=model_id, block=block, units=1
        )
        for model_id, by_block in places.items()
        for block, place in enumerate(by_block)
    ]
    return pd.concat(rows, ignore_index=True)
