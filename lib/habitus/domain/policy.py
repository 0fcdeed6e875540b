"""What is decided on flags, and which are not shown: rules in the words of SQL.

They see what is known of a flag: the columns of `scores`, its `severity`, `n_events`, `amount_sum`
and `amount_max` of the unit, every feature by its name, and how many earlier units of the user are
known to have been flagged rightly, `confirmed_before`, or not, `dismissed_before`. Rules that
decide see its `first_reason` and `flags_before` too, how many earlier units of the user are flags;
what suppresses does not, nor do rules down to the last that allows see `flags_before`, as these
have a say in which units are flags.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, Window, WindowSpec
from pyspark.sql import functions as F

from habitus.alert_settings import AlertSettings, RuleSettings, SuppressSettings
from habitus.domain.alerts import of_severity
from habitus.errors import SettingsError


def with_suppression(candidates: DataFrame, settings: AlertSettings) -> DataFrame:
    """Say which candidates are not to be shown by the rules for suppression, and by which.

    Args:
        candidates: Rows from `alerts.rare`, with what rules see.
        settings: The rules.

    Returns:
        These rows with a column `suppressed_by`; none where nothing does.

    Raises:
        SettingsError: A condition is none over the columns there are.
    """
    by = _first_that_holds(candidates, settings.suppress, "alerts.suppress")
    return candidates.withColumn("suppressed_by", by)


def with_flags_before(flags: DataFrame, others: DataFrame) -> DataFrame:
    """Count for each flag the flags of its user, shown or not, whose units began before its own.

    Args:
        flags: Rows with user_id and event_time.
        others: The model's other flags, likewise.

    Returns:
        `flags` with a column `flags_before` (bigint).
    """
    every = _among(flags, others.select("user_id", "event_time"))
    counted = every.withColumn("flags_before", F.count(F.lit(1)).over(_earlier_of_user()))
    return counted.where("_asked").drop("_asked")


def with_verdicts_before(units: DataFrame, judged: DataFrame) -> DataFrame:
    """Count for each unit those of its user that began before and are known to be, or not to be.

    Args:
        units: Rows with user_id and event_time.
        judged: user_id, event_time and `label`, whether they are anomalies, of flagged units.

    Returns:
        `units` with columns `confirmed_before` and `dismissed_before` (bigint).
    """
    known = judged.select("user_id", "event_time", F.col("label").alias("_label"))
    counts = {"confirmed_before": F.col("_label"), "dismissed_before": ~F.col("_label")}
    counted = _among(units, known).withColumns(
        {name: F.count_if(which).over(_earlier_of_user()) for name, which in counts.items()}
    )
    return counted.where("_asked").drop("_asked", "_label")


def _among(rows: DataFrame, others: DataFrame) -> DataFrame:
    """Rows and others together; rows are `_asked`."""
    return rows.withColumn("_asked", F.lit(True)).unionByName(others, allowMissingColumns=True)


def _earlier_of_user() -> WindowSpec:
    microseconds = F.unix_micros("event_time")
    before = Window.partitionBy("user_id").orderBy(microseconds)
    return before.rangeBetween(Window.unboundedPreceding, -1)


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


@dataclass(frozen=True)
class Mutes:
    """Fields that mute flags whose first reason they are, each with what is said of it.

    Args:
        always: Those of the settings.
        unless_judged: Those of reviews; a flag that has been judged is not hidden any more, which
            would make the others look more precise than they were.
    """

    always: Mapping[str, str]
    unless_judged: Mapping[str, str]

    @classmethod
    def of(cls, settings: AlertSettings, dismissed: Mapping[str, int]) -> "Mutes":
        """What is muted.

        Args:
            settings: Say which, and after how many.
            dismissed: Field -> of how many dismissed flags it was the first reason; of fields that
                were that of no confirmed one.
        """
        least = settings.mute_after
        return cls(
            {field: f"muted: {field}" for field in settings.mute},
            {
                field: f"muted: {field}, first reason of {count} dismissed flags, no confirmed one"
                for field, count in sorted(dismissed.items())
                if least is not None and count >= least
            },
        )

    def __bool__(self) -> bool:
        return bool(self.always or self.unless_judged)

    def by(self, reasons: Column, is_judged: Column) -> Column:
        """What mutes a flag; none where nothing does.

        Args:
            reasons: As in `tables.ANOMALIES`.
            is_judged: Whether it is known what the flag turned out to be.
        """
        field = first_reason(reasons)
        by_reviews = F.when(~is_judged, _said(self.unless_judged, field))
        return F.coalesce(_said(self.always, field), by_reviews)


def first_reason(reasons: Column) -> Column:
    """The field of the strongest reason; none where there is no reason."""
    return F.try_element_at(reasons, F.lit(1))["field"]


def _said(said: Mapping[str, str], field: Column) -> Column:
    return F.coalesce(
        *(F.when(field == name, F.lit(text)) for name, text in said.items()),
        F.lit(None).cast("string"),
    )


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
