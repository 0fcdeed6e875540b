"""What is decided on flags, and which are not shown: rules in the words of SQL.

They see what is known of a flag: the columns of `scores`, its `severity`, `n_events`, `amount_sum`
and `amount_max` of the unit, and every feature by its name. Rules that decide see `flags_before`
too, how many earlier units of the user are flags; what suppresses does not, as it has a say in
which units are flags.
"""

from collections.abc import Sequence

from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from habitus.alert_settings import AlertSettings, RuleSettings, SuppressSettings
from habitus.domain.alerts import of_severity
from habitus.errors import SettingsError


def with_suppression(candidates: DataFrame, settings: AlertSettings) -> DataFrame:
    """Say which candidates are not to be shown, and by what.

    A candidate is quiet in the cool-down of another unit of its user, at least as strange, that
    began so shortly before it; one that is stranger is shown at once.

    Args:
        candidates: Rows from `alerts.rare`, with what rules see.
        settings: The rules for suppression, and the cool-down.

    Returns:
        These rows with a column `suppressed_by`; none where nothing does.

    Raises:
        SettingsError: A condition is none over the columns there are.
    """
    reasons = _first_that_holds(candidates, settings.suppress, "alerts.suppress")
    if settings.cool_down is not None:
        microseconds = F.unix_micros("event_time")
        length = settings.cool_down.total_seconds() * 1e6
        before = Window.partitionBy("user_id").orderBy(microseconds).rangeBetween(-int(length), -1)
        strangest = F.min("p_value").over(before)
        quiet = F.lit(f"cool-down of {settings.cool_down}")
        reasons = F.coalesce(reasons, F.when(strangest <= F.col("p_value"), quiet))
    return candidates.withColumn("suppressed_by", reasons)


def with_flags_before(flags: DataFrame, others: DataFrame) -> DataFrame:
    """Count for each flag the flags of its user, shown or not, whose units began before its own.

    Args:
        flags: Rows with user_id and event_time.
        others: The model's other flags, likewise.

    Returns:
        `flags` with a column `flags_before` (bigint).
    """
    microseconds = F.unix_micros("event_time")
    before = Window.partitionBy("user_id").orderBy(microseconds)
    before = before.rangeBetween(Window.unboundedPreceding, -1)
    every = flags.withColumn("_asked", F.lit(True)).unionByName(
        others.select("user_id", "event_time"), allowMissingColumns=True
    )
    counted = every.withColumn("flags_before", F.count(F.lit(1)).over(before))
    return counted.where("_asked").drop("_asked")


def decided(flags: DataFrame, settings: AlertSettings) -> DataFrame:
    """Decide what to do about flags: by the first rule that holds, else by severity.

    Args:
        flags: Rows with what rules see.
        settings: The rules.

    Returns:
        These rows with columns `decision` and `decided_by`, the rule's reason or the severity.

    Raises:
        SettingsError: A condition is none over the columns there are.
    """
    why = _first_that_holds(flags, settings.rules, "alerts.rules")
    decision = _first_that_holds(flags, settings.rules, "alerts.rules", part="decision")
    by_severity = F.concat(F.lit("severity "), "severity")
    return flags.withColumns(
        {
            "decision": F.coalesce(decision, of_severity("decision")),
            "decided_by": F.coalesce(why, by_severity),
        }
    )


def muted(reasons: Column, settings: AlertSettings) -> Column:
    """What mutes a flag with these reasons; none where nothing does.

    Args:
        reasons: As in `tables.ANOMALIES`.
        settings: The fields that are muted.
    """
    strongest = F.try_element_at(reasons, F.lit(1))["field"]
    said = F.concat(F.lit("muted: "), strongest)
    return F.when(strongest.isin(list(settings.mute)), said)


def _first_that_holds(
    frame: DataFrame,
    rules: Sequence[RuleSettings | SuppressSettings],
    place: str,
    part: str = "why",
) -> Column:
    """The part of the first rule that holds; none where none does."""
    found = []
    for number, rule in enumerate(rules):
        condition = F.expr(rule.when)
        try:
            kind = frame.select(condition).schema[0].dataType.simpleString()
        except AnalysisException as error:
            problem = f"{rule.when!r} is no condition over what is known of a flag"
            known = ", ".join(sorted(frame.columns))
            raise SettingsError(f"{place}[{number}].when", problem, f"Use {known}.") from error
        if kind != "boolean":
            problem = f"{rule.when!r} is a {kind}, no condition"
            raise SettingsError(f"{place}[{number}].when", problem, "Compare it with something.")
        found.append(F.when(condition, F.lit(getattr(rule, part))))
    return F.coalesce(*found, F.lit(None).cast("string"))
