"""The flags that the report shows, and what became of them."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from habitus.domain.labelling import unit_labels
from habitus.domain.linking import USER
from habitus.domain.reporting.data import Outcome
from habitus.jobs.frame import JobContext
from habitus.jobs.reviewing import is_shown, verdicts
from habitus.tables import CASES, LABELS, sequences
from habitus.unit_columns import UNIT_KEY


def shown_flags(context: JobContext, model_id: str, anomalies: DataFrame) -> DataFrame:
    """The flags that are shown, with their case, what they are known to be, and the verdict."""
    flags = anomalies.where(is_shown()).drop("reasons")
    cases = context.read_or_empty(CASES).where(F.col("model_id") == model_id)
    # A case that was looked at stays when its flags go on in another: the newest counts.
    newest = F.max(F.struct("made_at", "case_id", F.col("kind").alias("case_kind")))
    of_cases = (
        cases.withColumn("unit_id", F.explode("unit_ids"))
        .groupBy("unit_id")
        .agg(newest.alias("newest"))
        .select("unit_id", "newest.case_id", "newest.case_kind")
    )
    units = context.read(sequences(context.settings.sequences.fields))
    flagged = units.join(F.broadcast(flags.select("unit_id")), "unit_id", "leftsemi")
    known = unit_labels(context.read_or_empty(LABELS), flagged).groupBy("unit_id")
    kinds = known.agg(F.sort_array(F.collect_set("kind")).alias("kinds"))
    verdict = F.when(F.col("label"), "anomalous").when(~F.col("label"), "dismissed")
    case = {
        "case_id": F.coalesce("case_id", "unit_id"),
        "case_kind": F.coalesce("case_kind", F.lit(USER)),
    }
    return (
        flags.join(kinds, "unit_id", "left")
        .join(of_cases, "unit_id", "left")
        .join(verdicts(context), UNIT_KEY, "left")
        .withColumns({**case, "verdict": verdict})
        .drop("label")
    )


def outcomes(counted: Sequence[Row]) -> Mapping[str, Outcome]:
    """Decision -> what became of the flags."""
    found: dict[str, dict[str | None, int]] = defaultdict(lambda: defaultdict(int))
    for row in counted:
        found[row["decision"]][row["verdict"]] += row["count"]
    return {
        decision: Outcome(sum(of.values()), of["anomalous"], of["dismissed"])
        for decision, of in sorted(found.items())
    }


def hidden(anomalies: DataFrame) -> Mapping[str, int]:
    """What keeps flags from being shown, by the number of them."""
    why = F.coalesce("suppressed_by", F.lit("the decision to allow them")).alias("why")
    rows = anomalies.where(~is_shown()).groupBy(why).count().collect()
    return {row["why"]: row["count"] for row in sorted(rows, key=lambda row: -row["count"])}


def by_day(counted: Sequence[Row], part: str) -> Mapping[date, Mapping[str, int]]:
    """Day -> severity, or another part of what was counted -> flags."""
    found: dict[date, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for row in counted:
        found[row["event_date"]][row[part]] += row["count"]
    return found
