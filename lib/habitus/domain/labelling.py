"""Which units are anomalous, by what is known of them, their events and their users."""

from datetime import datetime

from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F

from habitus.domain.joining import whole_if_few
from habitus.domain.totals import totals
from habitus.unit_columns import UNIT_KEY

UNNAMED = "unnamed"


def unit_labels(
    labels: DataFrame, sequences: DataFrame, known_by: datetime | None = None
) -> DataFrame:
    """The anomalous units, one row per unit and kind of anomaly.

    A label of an event marks the unit that judges the event, a unit's own label marks it, a
    user's label marks all the user's units. Of the labels of one event, session or user the one
    known last counts. A unit's own label that says it is normal also overrules what was known
    of its events and user by then. One without a kind, as an analyst's verdict is, names none
    where another does.

    Args:
        labels: Rows of `labels`.
        sequences: Rows of `sequences`, the units to mark.
        known_by: Labels that became known later do not count; none: all count.

    Returns:
        `unit_id` and `kind`.
    """
    last = _latest(labels, known_by)
    marks = last.join(_judged_things(sequences), ["unit_kind", "labelled"])
    own_no = F.when(F.col("own") & ~F.col("label"), F.col("known_at"))
    cleared = marks.groupBy("unit_id").agg(
        F.max(own_no).alias("cleared_at"),
        F.collect_list(F.when(F.col("label"), F.struct("kind", "known_at"))).alias("marks"),
    )
    holding = F.filter(
        "marks",
        lambda mark: F.col("cleared_at").isNull() | (mark["known_at"] > F.col("cleared_at")),
    )
    kinds = F.array_distinct(F.transform(holding, lambda mark: mark["kind"]))
    named = F.array_remove(kinds, UNNAMED)
    return cleared.select(
        "unit_id", F.explode(F.when(F.size(named) > 0, named).otherwise(kinds)).alias("kind")
    )


def unit_verdicts(
    labels: DataFrame, units: DataFrame, sequences: DataFrame, known_by: datetime
) -> DataFrame:
    """What labels say that units turned out to be, which are few beside the labels.

    Only labels that name a unit itself or one of the events that it judges count. One that says
    anomalous is enough, unless the unit's own label has said otherwise since.

    Args:
        labels: Rows of `labels`.
        units: `unit_kind` and `unit_id`, each once.
        sequences: Rows of `sequences`, those of the units.
        known_by: Labels that became known later do not count.

    Returns:
        `unit_kind`, `unit_id` and `label`, of the units that labels name.
    """
    itself = units.select(
        F.struct("unit_kind", "unit_id").alias("unit"),
        "unit_kind",
        F.col("unit_id").alias("labelled"),
        F.lit(True).alias("own"),
    )
    events = sequences.where("unit_kind != 'event'").select(
        F.struct("unit_kind", "unit_id").alias("unit"),
        F.lit("event").alias("unit_kind"),
        F.explode(_judged_events()).alias("labelled"),
        F.lit(False).alias("own"),
    )
    # Made once for what reads it below: the units' events are not read again.
    things = itself.unionByName(events).localCheckpoint()
    named = whole_if_few(things.select("unit_kind", F.col("labelled").alias("unit_id")))
    few = labels.join(named, UNIT_KEY, "left_semi")
    marks = _latest(few, known_by).join(things, ["unit_kind", "labelled"])
    of_units = marks.groupBy("unit").agg(
        F.max(F.when(F.col("own") & ~F.col("label"), F.col("known_at"))).alias("cleared_at"),
        F.max(F.when(F.col("label"), F.col("known_at"))).alias("marked_at"),
    )
    marked = F.col("marked_at").isNotNull() & (
        F.col("cleared_at").isNull() | (F.col("marked_at") > F.col("cleared_at"))
    )
    return of_units.select("unit.unit_kind", "unit.unit_id", marked.alias("label"))


def doubtful_labels(labels: DataFrame, sequences: DataFrame) -> Row:
    """How many labels there is reason to doubt.

    Args:
        labels: Rows of `labels`.
        sequences: Rows of `sequences`.

    Returns:
        `unmatched`, labels that name no unit, nor any unit's event or user; `early`,
        labels known before the unit that they name began, of which none but a user's can be.
    """
    named = labels.select("unit_kind", F.col("unit_id").alias("labelled"), "known_at")
    of_label = (
        named.join(_judged_things(sequences, "started_at"), ["unit_kind", "labelled"], "left")
        .groupBy("unit_kind", "labelled", "known_at")
        .agg(
            F.count("unit_id").alias("units"),
            (F.col("known_at") < F.min("started_at")).alias("early"),
        )
    )
    early = F.col("early") & (F.col("unit_kind") != "user")
    unmatched = F.count_if(F.col("units") == 0).alias("unmatched")
    return totals(of_label, unmatched, F.count_if(early).alias("early"))


def _latest(labels: DataFrame, known_by: datetime | None) -> DataFrame:
    """What became known last of each thing: unit_kind, labelled, label, kind, known_at."""
    if known_by is not None:
        labels = labels.where(F.col("known_at") <= F.lit(known_by))
    last = F.max_by(F.struct("label", F.coalesce("kind", F.lit(UNNAMED)).alias("kind")), "known_at")
    return (
        labels.groupBy("unit_kind", F.col("unit_id").alias("labelled"))
        .agg(last.alias("last"), F.max("known_at").alias("known_at"))
        .select("unit_kind", "labelled", "last.label", "last.kind", "known_at")
    )


def _judged_events() -> Column:
    """Ids of the events that a unit judges; those before are its user's history."""
    return F.slice("event_ids", F.col("scored_from") + 1, F.col("n_events"))


def unmatched_labels(labels: DataFrame, sequences: DataFrame) -> DataFrame:
    """The labels that name no unit, nor any unit's event or user: `unit_kind, labelled`.

    Args:
        labels: Rows of `labels`.
        sequences: Rows of `sequences`.
    """
    key = ["unit_kind", "labelled"]
    named = labels.select("unit_kind", F.col("unit_id").alias("labelled"))
    # By an inner join, for which the many things need not move where labels are few.
    there = named.distinct().join(_judged_things(sequences), key).select(*key).distinct()
    return named.join(there, key, "left_anti")


def _judged_things(sequences: DataFrame, *carried: str) -> DataFrame:
    """What a label may name to mark a unit: the unit itself, its judged events, its user.

    Rows of unit_id, unit_kind, labelled, own (whether it is the unit itself), and what is carried.
    """

    def thing(unit_kind: Column, labelled: Column, own: bool) -> Column:
        return F.struct(
            unit_kind.alias("unit_kind"), labelled.alias("labelled"), F.lit(own).alias("own")
        )

    of_events = F.when(
        F.col("unit_kind") != "event",
        F.transform(_judged_events(), lambda event_id: thing(F.lit("event"), event_id, False)),
    ).otherwise(F.array())
    things = F.concat(
        of_events,
        F.array(thing(F.col("unit_kind"), F.col("unit_id"), True)),
        F.array(thing(F.lit("user"), F.col("user_id"), False)),
    )
    return sequences.select("unit_id", *carried, F.inline(things))
