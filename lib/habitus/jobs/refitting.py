"""The detectors trained for each block of the test period anew: cross-validation.

Each block has a lake of its own for as long as it takes, whose tables that no split concerns are
clones; what makes sequences, models and scores in it is what makes them in any other.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import pandas as pd
from pyspark.sql import Column
from pyspark.sql import functions as F

from habitus.config import Settings, SplitSettings
from habitus.domain.evaluation import block_of_user, histograms
from habitus.domain.features import feature_names
from habitus.domain.split import resolve_split, rolled, unit_span
from habitus.jobs.features import learn_vocabulary, write_sequences
from habitus.jobs.frame import JobContext, Silent
from habitus.jobs.judging import judged_units, models_in_use
from habitus.jobs.score import write_scores
from habitus.jobs.train import run as train
from habitus.tables import EVENTS, LABELS, SESSIONS, features

_FOLDER = "refits"
_ABANDONED = timedelta(days=1)


@dataclass(frozen=True)
class Fold:
    """One block, and what its models may learn from.

    Attributes:
        until: Where the block ends; none: with the last unit.
        where: Of all units, those learned from and those judged; none: all there are.
    """

    split: SplitSettings
    until: datetime | None = None
    where: Column | None = None


def refitted(context: JobContext) -> pd.DataFrame:
    """How many units of each kind lie in each bin of surprise, by models that do not know them.

    Returns:
        Rows of `evaluation.histograms`; a detector's name stands for the ids of its models.
    """
    artefacts = context.artefacts
    artefacts.delete_abandoned(_FOLDER, "", context.started_at - _ABANDONED)
    folder = f"{_FOLDER}/{context.run_id}"
    found, blocks = [], context.settings.evaluate.blocks
    try:
        for block, fold in enumerate(folds_of(context)):
            with context.reporter.step(f"train for block {block + 1} of {blocks}, and judge it"):
                root = f"{artefacts.root}/{folder}/{block}"
                found.append(judge(context, fold, root).assign(block=block))
    finally:
        artefacts.delete(folder)
    return pd.concat(found, ignore_index=True)


def folds_of(context: JobContext) -> Iterator[Fold]:
    """The blocks of time, or of users, of the settings."""
    settings = context.settings
    first, last = unit_span(context.read(SESSIONS), settings.unit)
    split, blocks = resolve_split(settings.split, first, last), settings.evaluate.blocks
    if settings.evaluate.blocks_of == "time":
        moved = rolled(split, last, blocks)
        ends = [start for _, start in moved[1:]] + [None]
        for (one, _), end in zip(moved, ends, strict=True):
            yield Fold(one, until=end)
    else:
        (same, start), *_ = rolled(split, last, 1)
        for block in range(blocks):
            inside = block_of_user(blocks) == block
            yield Fold(same, where=inside == (F.col("ended_at") >= F.lit(start)))


def judge(context: JobContext, fold: Fold, root: str) -> pd.DataFrame:
    """The same of one block, whose lake is at a root."""
    settings = _settings(context.settings, fold, root)
    inner = replace(
        JobContext(context.job, settings, context.spark, Silent()), started_at=context.started_at
    )
    for table in (EVENTS, SESSIONS, features(feature_names(settings.features)), LABELS):
        if context.lake.exists(table):
            context.read(table)
            context.lake.clone(table, context.inputs[table.name], inner.lake)
    write_sequences(inner, learn_vocabulary(inner, fold.where), fold.where)
    train(inner)
    write_scores(inner)
    models = models_in_use(inner)
    found = histograms(judged_units(inner, models), context.started_at).toPandas()
    names = {model_id: name for name, model_id in models.items()}
    return found.assign(model_id=found["model_id"].map(names))


def _settings(settings: Settings, fold: Fold, root: str) -> Settings:
    """Those of a block: all that is trained in its lake scores, and nothing else."""
    tracking = settings.tracking
    changed = {
        "lake": {"root": root, "schema_name": None, "catalog": None},
        "score": {"from_time": None, "until": fold.until, "models": {}, "challengers": ()},
        "train": {"promote": True},
        "tracking": {"experiment": f"{tracking.experiment}, refitted"},
    }
    parts = {
        name: getattr(settings, name).model_copy(update=update) for name, update in changed.items()
    }
    return settings.model_copy(update={**parts, "split": fold.split})
