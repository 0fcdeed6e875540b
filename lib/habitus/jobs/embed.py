"""From `sequences` to `embeddings`, and to the past `neighbours` of flagged units."""

from collections.abc import Iterable, Iterator
from typing import cast

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from habitus.domain.joining import whole_if_few
from habitus.domain.neighbours import FOUND, Asking, nearest
from habitus.domain.representations import EMBEDDED, Embedder, embed_batch
from habitus.domain.vocabulary import Vocabulary
from habitus.edges.models import load_model
from habitus.jobs.frame import JobContext
from habitus.jobs.judging import in_period, model_of, models_that_score, units_for
from habitus.tables import ANOMALIES, EMBEDDINGS, NEIGHBOURS
from habitus.unit_columns import UNIT_KEY

EMBEDDER = "behaviour"
# Past units told of each flag: so many of its user, and as many of others.
_NEAREST = 3


def run(context: JobContext) -> None:
    """Embed what has no vector of the current model yet, and find the past of flagged units."""
    model_id = model_of(context, EMBEDDER)
    vocabulary = load_model(context.artefacts.root, model_id).vocabulary
    with context.reporter.step(f"embed units with {model_id}"):
        _embed(context, model_id, vocabulary)
    flagging = models_that_score(context).get(context.settings.flagging_detector)
    if flagging is not None and context.lake.exists(ANOMALIES):
        with context.reporter.step("find the past units that flagged ones are most like"):
            flags = context.read(ANOMALIES).where(F.col("model_id") == flagging)
            _compare(context, model_id, flags, in_period(context, vocabulary))


def _embed(context: JobContext, model_id: str, vocabulary: Vocabulary) -> None:
    units = units_for(context, [model_id], vocabulary)
    here = context.read_or_empty(EMBEDDINGS).where(F.col("model_id") == model_id)
    known = here.select("unit_kind", "unit_id", "fingerprint")
    new = units.join(known, known.columns, "left_anti").withColumn(
        "event_time", F.col("started_at")
    )
    gone = known.join(units, UNIT_KEY, "left_anti")
    root = context.artefacts.root

    def embedded(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            model = load_model(root, model_id)
            yield embed_batch(batch, cast(Embedder, model.detector), model.vocabulary)

    vectors = new.mapInArrow(embedded, EMBEDDED).withColumn("gone", F.lit(False))
    rows = vectors.unionByName(
        gone.select("unit_kind", "unit_id", F.lit(True).alias("gone")), allowMissingColumns=True
    ).withColumns({"model_id": F.lit(model_id), "embedded_at": F.lit(context.started_at)})
    # A unit that changed has another fingerprint; all of its row follows.
    keys = {"gone", *EMBEDDINGS.key, "fingerprint"}
    context.merge(
        EMBEDDINGS,
        rows.select(*EMBEDDINGS.names, "gone"),
        update=("fingerprint",),
        stamp=tuple(name for name in EMBEDDINGS.names if name not in keys),
        where=f"old.model_id = '{model_id}'",
    )


def _compare(context: JobContext, model_id: str, flags: DataFrame, period: Column) -> None:
    vectors = context.read_now(EMBEDDINGS).where(F.col("model_id") == model_id)
    ids = whole_if_few(flags.select("unit_kind", "unit_id"))
    flagged = vectors.where(period).join(ids, ids.columns, "left_semi")
    context.merge(
        NEIGHBOURS,
        _neighbours(flagged, vectors)
        .withColumn("found_at", F.lit(context.started_at))
        .select(*NEIGHBOURS.names),
        update=("of_user", "of_others"),
        stamp=("event_time", "ended_at", "found_at", "event_date"),
    )


def _neighbours(flagged: DataFrame, vectors: DataFrame) -> DataFrame:
    """The flagged units, each with the past units most like it, its user's and others'."""
    columns = ["unit_id", "user_id", "event_time", "vector"]
    # A budget of flags a day is small beside the units: every task holds all of them.
    table = flagged.select(*columns).orderBy("unit_id").toArrow()
    asking = Asking.from_arrow(table) if len(table) else None

    def found(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        if asking is not None:
            yield from nearest(asking, batches, _NEAREST)

    past = F.struct("similarity", "ended_at", "unit_id", "user_id")

    def best(own: bool) -> Column:
        mine = F.collect_list(F.when(F.col("own") == F.lit(own), past))
        return F.slice(F.sort_array(mine, asc=False), 1, _NEAREST)

    of_each = (
        vectors.select("unit_id", "user_id", "ended_at", "vector")
        .mapInArrow(found, FOUND)
        .groupBy(F.col("asking").alias("unit_id"))
        .agg(best(True).alias("of_user"), best(False).alias("of_others"))
    )
    # Without any past there is no row of the search.
    none = F.array().cast(of_each.schema["of_user"].dataType)
    return flagged.join(of_each, "unit_id", "left").withColumns(
        {name: F.coalesce(name, none) for name in ("of_user", "of_others")}
    )
