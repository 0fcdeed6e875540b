"""From what analysts made of flags and cases to `labels`."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from habitus.jobs.frame import JobContext
from habitus.tables import ANOMALIES, CASES, LABELS

# The status that says what a flag turned out to be, and whether that is an anomaly.
_VERDICTS = {"confirmed": True, "dismissed": False}
_SOURCE = "analyst"
_KEY = ["unit_kind", "unit_id"]


def run(context: JobContext) -> None:
    """Write a label for each flag with a verdict, unless the last one from here says the same.

    A verdict on a case holds for its flags, except those with one of their own.
    """
    flags = _judged(context.read(ANOMALIES).select(*_KEY, "model_id", "status"))
    cases = context.read_or_empty(CASES)
    of_cases = _judged(
        cases.select("model_id", F.explode("unit_ids").alias("unit_id"), "status").join(
            context.read(ANOMALIES).select(*_KEY, "model_id"), ["model_id", "unit_id"]
        )
    )
    both = flags.unionByName(of_cases.join(flags, _KEY, "left_anti")).groupBy(*_KEY)
    # Of models that disagree, or cases, one confirmation is enough.
    verdicts = both.agg(F.max("label").alias("label"))
    ours = context.read_or_empty(LABELS).where(F.col("source") == _SOURCE)
    last = ours.groupBy(*_KEY).agg(F.max_by("label", "known_at").alias("label"))
    new = verdicts.join(last, [*_KEY, "label"], "left_anti").withColumns(
        {
            "kind": F.lit(None).cast("string"),
            "known_at": F.lit(context.started_at),
            "source": F.lit(_SOURCE),
        }
    )
    with context.reporter.step("turn what analysts found into labels"):
        context.merge(LABELS, new.select(*LABELS.names))


def _judged(flags: DataFrame) -> DataFrame:
    """The flags with a verdict: unit_kind, unit_id and label."""
    label = F.create_map(*(F.lit(part) for pair in _VERDICTS.items() for part in pair))
    judged = flags.withColumn("label", label[F.col("status")])
    return judged.where("label is not null").select(*_KEY, "label")
