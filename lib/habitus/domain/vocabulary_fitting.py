"""A vocabulary fitted on training units only."""

from bisect import bisect_right
from collections.abc import Sequence

from pyspark.sql import Column, DataFrame, Row, Window
from pyspark.sql import functions as F

from habitus.domain.event_fields import NUMBERS, text, user_events, with_gaps
from habitus.domain.vocabulary import FieldVocabulary, Split, Vocabulary
from habitus.errors import InputError
from habitus.setting_types import FieldName, UnitKind
from habitus.unit_settings import SequenceSettings

_HOURS = tuple(f"{hour:02}:00" for hour in range(24))


def fit_vocabulary(
    sessions: DataFrame,
    settings: SequenceSettings,
    unit_kind: UnitKind,
    feature_names: Sequence[str],
    split: Split,
) -> Vocabulary:
    """Learn the tokens from the training units of the split.

    Values are the most frequent first, like ones in the order of their text. Numbers are cut at
    their quantiles, rounded to two digits. All counts come from one pass; what is collected is
    at most `vocabulary_size` rows per field, or some thousands for a number.

    Args:
        sessions: As in `tables.SESSIONS`.
        settings: Which fields, and how many values each.
        unit_kind: What a unit is.
        feature_names: Names of the context's features, in order.
        split: Where training begins and ends.

    Raises:
        InputError: No unit ends in the training period.
    """

    def trains(time: str) -> Column:
        return (F.col(time) >= F.lit(split.train_from)) & (F.col(time) < F.lit(split.train_until))

    if unit_kind == "session":
        chosen = sessions.where(trains("ended_at"))
        events = chosen.select(F.explode(with_gaps("events")).alias("event"))
    else:
        events = user_events(sessions).where(trains("event.event_time"))
    counted = [name for name in settings.fields if name != "hour"]
    pairs = F.array(
        *(
            F.struct(F.lit(name).alias("field"), text(name, F.col("event")).alias("value"))
            for name in counted
        )
    )
    most_frequent = Window.partitionBy("field").orderBy(F.desc("times"), "value")
    rows = (
        events.select(F.inline(pairs))
        .where("value is not null")
        .groupBy("field", "value")
        .agg(F.count("*").alias("times"))
        .withColumn("rank", F.row_number().over(most_frequent))
        .where((F.col("rank") <= settings.vocabulary_size) | F.col("field").isin(*NUMBERS))
        .orderBy("field", "rank")
        .collect()
    )
    if not rows:
        raise InputError(
            "table sessions",
            f"no {unit_kind} ends from {split.train_from.isoformat()} until "
            f"{split.train_until.isoformat()}, when training ends",
            "Set split.train_until to a later time or a larger share.",
        )
    return Vocabulary(
        unit_kind=unit_kind,
        fields=tuple(_field(name, rows, settings) for name in settings.fields),
        context=tuple(feature_names),
        split=split,
    )


def _field(name: FieldName, rows: Sequence[Row], settings: SequenceSettings) -> FieldVocabulary:
    counts = [(row["value"], row["times"]) for row in rows if row["field"] == name]
    if name == "hour":
        return FieldVocabulary(name=name, kind="values", values=_HOURS)
    if name in NUMBERS:
        bounds = quantile_bounds([(float(one), times) for one, times in counts], settings.bins)
        return FieldVocabulary(name=name, kind="bins", bounds=bounds, unit=NUMBERS[name])
    kept = tuple(value for value, times in counts if times >= settings.rare_below)
    return FieldVocabulary(name=name, kind="values", values=kept)


def quantile_bounds(counts: Sequence[tuple[float, int]], bins: int) -> tuple[float, ...]:
    """Lower bounds of all bins but the lowest.

    Bins hold about 1 / `bins` of the values each; a value that often is a bin of its own. The
    highest are cut further at the quantiles .99 and .999, because what is strange is often large.

    Args:
        counts: Values, and how often each was seen.
        bins: How many quantile bins.
    """
    total = sum(times for _, times in counts)
    levels = sorted({*(level / bins for level in range(1, bins)), 0.99, 0.999})
    bounds = []
    below = passed = 0
    for value, times in sorted(counts):
        reached = bisect_right(levels, below / total)
        if below and (reached > passed or times * bins >= total):
            bounds.append(value)
        passed = reached
        below += times
    return tuple(bounds)
