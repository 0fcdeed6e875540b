"""What flags turned out to be, by what analysts made of them and of cases, and by labels."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from habitus.domain.joining import whole_if_few
from habitus.domain.labelling import unit_verdicts
from habitus.domain.policy import Mutes, first_reason
from habitus.domain.reviews import Precision, precise_until, precisions, reviews
from habitus.jobs.frame import JobContext
from habitus.tables import ANOMALIES, CASES, LABELS, sequences
from habitus.unit_columns import UNIT_KEY

# The status that says what a flag turned out to be, and whether that is an anomaly.
_VERDICTS = {"confirmed": True, "dismissed": False}
# What a status may be that something follows from; analysts may write any other.
STATUSES = ("open", *_VERDICTS)


def is_shown() -> Column:
    """Whether a flag is one for people to look at."""
    return F.col("suppressed_by").isNull() & (F.col("decision") != "allow")


def is_decided() -> Column:
    """Whether a flag or case has a verdict."""
    return F.col("status").isin(*_VERDICTS)


def verdicts(context: JobContext) -> DataFrame:
    """The flagged units that are known to be anomalies or not: unit_kind, unit_id and label.

    What an analyst made of a flag or its case counts, else labels that are known by now and name
    the unit itself or one of its events.
    """
    by_status = status_verdicts(context)
    if not context.lake.exists(LABELS):
        return by_status
    flagged = context.read_or_empty(ANOMALIES).select(*UNIT_KEY).distinct()
    # Whatever fields it has, what is asked for is the events.
    units = context.read_or_empty(sequences(()))
    units = units.join(whole_if_few(flagged), UNIT_KEY, "left_semi")
    by_label = unit_verdicts(context.read(LABELS), flagged, units, context.started_at)
    return by_status.unionByName(by_label.join(by_status, UNIT_KEY, "left_anti"))


def judged_flags(context: JobContext) -> DataFrame:
    """The flags, of any model, that are known to be anomalies or not, each unit once.

    Returns:
        unit_kind, unit_id, user_id, event_time, `label`, and `fields`: the first reasons.
    """
    field = first_reason(F.col("reasons")).alias("field")
    flags = context.read_or_empty(ANOMALIES).select(*UNIT_KEY, "user_id", "event_time", field)
    of_units = flags.groupBy(*UNIT_KEY, "user_id").agg(
        F.min("event_time").alias("event_time"), F.collect_set("field").alias("fields")
    )
    return of_units.join(verdicts(context), UNIT_KEY)


def mutes(context: JobContext, judged: DataFrame) -> Mutes:
    """What mutes flags in this run: the settings, and what is known of earlier flags.

    Args:
        context: The job.
        judged: From `judged_flags`.
    """
    alerts = context.settings.alerts
    if alerts.mute_after is None:
        return Mutes.of(alerts, {})
    counts = (
        judged.select("label", F.explode("fields").alias("field"))
        .groupBy("field")
        .agg(F.count_if("label").alias("confirmed"), F.count_if(~F.col("label")).alias("dismissed"))
        .where("confirmed = 0")
    )
    return Mutes.of(alerts, {row["field"]: row["dismissed"] for row in counts.collect()})


def status_verdicts(context: JobContext) -> DataFrame:
    """The flagged units that analysts gave a verdict on: unit_kind, unit_id and label.

    A verdict on a case holds for its flags, except those with one of their own.
    """
    flags = context.read_or_empty(ANOMALIES).select(*UNIT_KEY, "model_id", "status")
    own = _judged(flags)
    of_cases = _judged(
        context.read_or_empty(CASES)
        .select("model_id", F.explode("unit_ids").alias("unit_id"), "status")
        .join(flags.drop("status"), ["model_id", "unit_id"])
    )
    both = own.unionByName(of_cases.join(own, UNIT_KEY, "left_anti"))
    # Of models that disagree, or cases, one confirmation is enough.
    return both.groupBy(*UNIT_KEY).agg(F.max("label").alias("label"))


def other_statuses(context: JobContext) -> DataFrame:
    """The statuses of flags and cases from which nothing follows.

    Returns:
        `status` and how many `flags` and `cases` have it; first what is perhaps misspelt, then what
        many have.
    """
    names = {"flags": ANOMALIES, "cases": CASES}
    every = [
        context.read_or_empty(table).select("status", F.lit(name).alias("of"))
        for name, table in names.items()
    ]
    status = F.lower(F.trim("status"))
    edits = F.least(*(F.levenshtein(status, F.lit(known)) for known in STATUSES))
    counts = [F.count_if(F.col("of") == name).alias(name) for name in names]
    return (
        every[0]
        .unionByName(every[1])
        .where(~F.col("status").isin(*STATUSES))
        .groupBy("status")
        .agg(*counts)
        .orderBy(edits, F.desc(F.col("flags") + F.col("cases")), "status")
    )


def reviewed(context: JobContext, model_id: str) -> tuple[Precision, ...]:
    """How precise the flags of a model that were shown are, up to each p-value."""
    flags = context.read_or_empty(ANOMALIES).where(F.col("model_id") == model_id)
    shown = flags.where(is_shown()).select(*UNIT_KEY, "p_value")
    rows = reviews(shown.join(verdicts(context), UNIT_KEY, "left")).toArrow().to_pylist()
    counts = [(row["part"], row["flags"], row["confirmed"], row["dismissed"]) for row in rows]
    return precisions(counts, context.settings.evaluate.confidence)


def precise_p_value(context: JobContext, model_id: str) -> float | None:
    """The largest p-value at which reviews show the precision that is wanted; none: any."""
    least = context.settings.alerts.precision
    if least is None:
        return None
    confidence = context.settings.evaluate.confidence
    found = precise_until(reviewed(context, model_id), least, confidence)
    context.reporter.say(
        f"reviews do not show a precision of {least:g} at any p-value: they decide nothing yet"
        if found is None
        else f"reviews show a precision of {least:g} up to p = {found:.2g}"
    )
    return found


def _judged(flags: DataFrame) -> DataFrame:
    label = F.create_map(*(F.lit(part) for pair in _VERDICTS.items() for part in pair))
    return flags.where(is_decided()).select(*UNIT_KEY, label[F.col("status")].alias("label"))
