"""What limits a detector on the Handbook's payments: which frauds it misses, what its inputs give.

Of each kind of fraud it is told what share is among the first payments by score, as many as there
are frauds, and its AUC beside all that are none. Then gradient boosting is fitted again without
what a group of features tells.
"""

from collections.abc import Collection, Iterator
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import polars as pl
from _figures import Figure
from _payments import MEASURES, SEED, values_of
from sklearn.metrics import roc_auc_score

from habitus.domain.detectors.labelled import Labelled
from habitus.domain.detectors.selected import without
from habitus.domain.detectors.trees import GradientBoostingDetector
from habitus.domain.units import Units
from habitus.domain.vocabulary import Vocabulary

_AT_TERMINAL = pl.col("TX_FRAUD_SCENARIO") == 2
KINDS = {
    "large amounts": pl.col("TX_FRAUD_SCENARIO") == 1,
    "terminals with a known fraud": _AT_TERMINAL & pl.col("visible"),
    "terminals without a known fraud": _AT_TERMINAL & ~pl.col("visible"),
    "compromised customers": pl.col("TX_FRAUD_SCENARIO") == 3,
}
COMPARED = [f"user_amount_{measure}_*" for measure in ("ratio", "zscore", "multiple", "peak")]
GROUPS: dict[str, Collection[str]] = {
    "known frauds at the terminal": ("counterparty_risk_*", "counterparty_*anomal*"),
    "numbers of payments at the terminal": ("counterparty_count_*",),
    "amounts beside the user's own": COMPARED,
    "anything of the user's past": ("user_*",),
}


def of_kinds(detector: str, scored: pl.DataFrame) -> Iterator[Figure]:
    """What share of each kind of fraud is among the first payments, and its AUC by itself."""
    frauds = int(scored["TX_FRAUD"].sum())
    first = scored.sort("score", "TRANSACTION_ID", descending=True).head(frauds)
    for name, kind in KINDS.items():
        count = scored.filter(kind).height
        title = f"{count} frauds of {name}"
        share = first.filter(kind).height / max(count, 1)
        yield Figure(f"{detector}, share found of {title}", share)
        if count:
            beside = scored.filter(kind | (pl.col("TX_FRAUD") == 0))
            auc = roc_auc_score(beside["TX_FRAUD"], beside["score"])
            yield Figure(f"{detector}, AUC of {title}", float(auc))


def without_groups(root: str, test: pl.DataFrame) -> Iterator[Figure]:
    """Gradient boosting without what a group of features tells, from a lake's tables."""
    (path,) = Path(root, "vocabularies").iterdir()
    vocabulary = Vocabulary.model_validate_json(path.read_text(encoding="utf-8"))
    split = vocabulary.split
    fields = vocabulary.field_names
    # Not the ids and times of events, which are most of the table.
    rows = pl.scan_delta(f"{root}/sequences").select(
        *("unit_id", "user_id", "ended_at", "amounts", "gaps", "context", "scored_from", "closed"),
        *fields,
    )
    labels = pl.read_delta(f"{root}/labels").filter(
        pl.col("label") & (pl.col("known_at") <= split.validation_until)
    )
    times = pl.col("ended_at").is_between(split.train_from, split.train_until, closed="left")
    trained = rows.filter(times).sort("unit_id").collect()
    asked = test.lazy().select(pl.col("TRANSACTION_ID").alias("unit_id")).with_row_index("place")
    judged = rows.join(asked, on="unit_id").sort("place").collect()
    learned = Labelled(
        units=Units.from_arrow(trained.to_arrow(), fields),
        anomalous=trained["unit_id"].is_in(labels["unit_id"].implode()).to_numpy(),
        weights=np.ones(trained.height),
        users=trained["user_id"].rank("dense").cast(pl.Int64).to_numpy(),
    )
    units = Units.from_arrow(judged.to_arrow(), fields)
    for name, patterns in {"nothing": (), **GROUPS}.items():
        hidden = [
            feature
            for feature in vocabulary.context
            if any(fnmatchcase(feature, pattern) for pattern in patterns)
        ]
        known = replace(learned, units=without(learned.units, hidden, vocabulary))
        detector = GradientBoostingDetector.fit(known, vocabulary, SEED)
        scored = test.with_columns(
            pl.Series("score", detector.score(without(units, hidden, vocabulary)))
        )
        for measure, value in zip(MEASURES, values_of(scored), strict=True):
            yield Figure(f"gradient_boosting without {name}, {measure}", value)
