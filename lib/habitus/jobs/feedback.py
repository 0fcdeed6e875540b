"""From what analysts made of flags and cases, and from label files, to `labels`."""

from pyspark.sql import Row
from pyspark.sql import functions as F

from habitus.domain.events import rejected_rows
from habitus.domain.label_rows import CHANGING, valid_labels
from habitus.domain.mapping import load_label_mapping
from habitus.domain.reporting.console import reviews_table
from habitus.errors import SettingsError, meant
from habitus.jobs.frame import JobContext, persisted
from habitus.jobs.judging import models_that_score
from habitus.jobs.reviewing import STATUSES, other_statuses, reviewed, status_verdicts
from habitus.jobs.source_files import count_useful, read_labels
from habitus.tables import EVENTS_REJECTED, LABELS
from habitus.unit_columns import UNIT_KEY

_SOURCE = "analyst"
# So many statuses that are no verdict are told; analysts may write what they like.
_TOLD = 20


def run(context: JobContext) -> None:
    """Bring in the labels of a source, if one is given, and those that analysts made of flags."""
    source, path = context.arguments.source, context.arguments.input
    if (source is None) != (path is None):
        raise SettingsError(
            "feedback", "--source and --input are not both given", "Give both, or none."
        )
    if source is not None and path is not None:
        _from_source(context, source, path)
    with context.reporter.step("turn what analysts found into labels"):
        _from_analysts(context)
        _tell_other_statuses(context)
    model_id = models_that_score(context).get(context.settings.flagging_detector)
    if model_id and (found := reviewed(context, model_id)):
        context.reporter.show(reviews_table(found))


def _from_source(context: JobContext, source: str, path: str) -> None:
    """Write the labels of a source that has nothing else; what is there is brought up to date."""
    mapping = load_label_mapping(source)
    rows = read_labels(context, mapping.label_file, mapping.name, source, path)
    # Rows are parsed and judged once, for the counts, the labels and the rejected.
    with persisted(rows) as judged:
        with context.reporter.step("read and judge the labels"):
            read = count_useful(judged, "a label", source, path)["read"]
        context.rows_in["source"] = read
        with context.reporter.step("write labels and rejected rows"):
            rejected = context.merge(EVENTS_REJECTED, rejected_rows(judged))
            labels = context.merge(LABELS, valid_labels(judged), CHANGING)
    context.rows_out["duplicates"] = read - labels - rejected
    context.reporter.say(
        f"{read:,} rows read = {labels:,} labels + {rejected:,} rejected "
        f"+ {read - labels - rejected:,} duplicates"
    )


def _from_analysts(context: JobContext) -> None:
    """Write a label for each flag with a verdict, unless the last one from here says the same."""
    ours = context.read_or_empty(LABELS).where(F.col("source") == _SOURCE)
    last = ours.groupBy(*UNIT_KEY).agg(F.max_by("label", "known_at").alias("label"))
    # The label known last counts: a verdict must not take the kind away that was known.
    named = context.read_or_empty(LABELS).where("label and kind is not null")
    kinds = named.groupBy(*UNIT_KEY).agg(F.max_by("kind", "known_at").alias("kind"))
    new = (
        status_verdicts(context)
        .join(last, [*UNIT_KEY, "label"], "left_anti")
        .join(kinds, UNIT_KEY, "left")
        .withColumns(
            {
                "kind": F.when(F.col("label"), F.col("kind")),
                "known_at": F.lit(context.started_at),
                "source": F.lit(_SOURCE),
            }
        )
    )
    context.merge(LABELS, new.select(*LABELS.names))


def _tell_other_statuses(context: JobContext) -> None:
    """Say which statuses make no label, as one that is misspelt would be no verdict in silence."""
    found = other_statuses(context).limit(_TOLD + 1).collect()
    others = []
    for row in found[:_TOLD]:
        if near := meant(row["status"].strip().lower(), STATUSES):
            context.reporter.say(
                f"{_counted(row)} with the status {row['status']!r}, which is no verdict; "
                f"did you mean {near!r}?"
            )
        else:
            others.append(f"{row['status']!r} of {_counted(row)}")
    if others:
        more = ", and more" if len(found) > _TOLD else ""
        context.reporter.say(f"other statuses: {', '.join(others)}{more}")


def _counted(row: Row) -> str:
    """E.g. 3 flags and 1 case."""
    counts = [(row[name], name) for name in ("flags", "cases") if row[name]]
    return " and ".join(f"{n:,} {name[:-1] if n == 1 else name}" for n, name in counts)
