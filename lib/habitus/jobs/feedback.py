"""From what analysts made of flags and cases to `labels`."""

from pyspark.sql import functions as F

from habitus.domain.reporting.console import reviews_table
from habitus.jobs.frame import JobContext
from habitus.jobs.judging import flagging_model
from habitus.jobs.reviewing import reviewed, verdicts
from habitus.tables import LABELS

_SOURCE = "analyst"
_KEY = ["unit_kind", "unit_id"]


def run(context: JobContext) -> None:
    """Write a label for each flag with a verdict, unless the last one from here says the same."""
    ours = context.read_or_empty(LABELS).where(F.col("source") == _SOURCE)
    last = ours.groupBy(*_KEY).agg(F.max_by("label", "known_at").alias("label"))
    # The label known last counts: a verdict must not take the kind away that was known.
    named = context.read_or_empty(LABELS).where("label and kind is not null")
    kinds = named.groupBy(*_KEY).agg(F.max_by("kind", "known_at").alias("kind"))
    new = (
        verdicts(context)
        .join(last, [*_KEY, "label"], "left_anti")
        .join(kinds, _KEY, "left")
        .withColumns(
            {
                "kind": F.when(F.col("label"), F.col("kind")),
                "known_at": F.lit(context.started_at),
                "source": F.lit(_SOURCE),
            }
        )
    )
    with context.reporter.step("turn what analysts found into labels"):
        context.merge(LABELS, new.select(*LABELS.names))
    if found := reviewed(context, flagging_model(context)):
        context.reporter.show(reviews_table(found))
