"""Applies the rules of today to the flags that are there."""

from collections.abc import Iterator

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from habitus.jobs.deciding import (
    DECIDED,
    decided_beside,
    flag_candidates,
    is_withdrawn,
    with_cool_down,
    with_mutes,
)
from habitus.jobs.frame import JobContext
from habitus.jobs.judging import flagging_model
from habitus.jobs.reviewing import judged_flags, mutes, precise_p_value
from habitus.tables import ANOMALIES, sequences
from habitus.unit_columns import UNIT_KEY

_AS_IT_IS = [*UNIT_KEY, "score", "p_value"]
_STAYS = ("model_id", "scored_at")
_SHOWN = 20  # groups of changes that a dry run tells


def run(context: JobContext) -> None:
    """Bring decision and suppression of all flags of the flagging model up to date."""
    with context.reporter.step("decide on the flags that are there"):
        changed = _replayed(context).drop(*(f"{name}_before" for name in DECIDED))
        # What another run or an analyst has changed meanwhile was not looked at.
        rows, seen = changed.select(*ANOMALIES.names), context.inputs.get(ANOMALIES.name)
        context.merge(ANOMALIES, rows, update=DECIDED, made_from=seen)


def preview(context: JobContext) -> Iterator[str]:
    """Say what the rules would change, most first: how many flags, from what, to what."""
    changed = _replayed(context)
    groups = changed.groupBy(*(f"{name}_before" for name in DECIDED), *DECIDED).agg(
        F.count(F.lit(1)).alias("flags"), F.min("unit_id").alias("one")
    )
    rows = groups.orderBy(F.desc("flags"), "one").collect()
    every = _flags(context, flagging_model(context)).count()
    yield f"  of {every:,} flags of the model {sum(r['flags'] for r in rows):,} change"
    for row in rows[:_SHOWN]:
        before = _in_words(*(row[f"{name}_before"] for name in DECIDED))
        after = _in_words(*(row[name] for name in DECIDED))
        yield f"  {row['flags']:,} from {before} to {after}, such as {row['one']}"
    if len(rows) > _SHOWN:
        yield f"  {len(rows) - _SHOWN:,} more groups of changes"


def _flags(context: JobContext, model_id: str) -> DataFrame:
    return context.read(ANOMALIES).where(F.col("model_id") == model_id)


def _replayed(context: JobContext) -> DataFrame:
    """The flags that rules would change, as they would be, with what they were as `_before`.

    A flag that is not as its unit is scored now, or was withdrawn, is left to `score`.
    """
    model_id = flagging_model(context)
    flags = _flags(context, model_id)
    units = context.read(sequences(context.settings.sequences.fields))
    judged = judged_flags(context)
    precise_until = precise_p_value(context, model_id)
    candidates = flag_candidates(context, units, model_id, precise_until, judged).drop(*_STAYS)
    # What is in both tables comes from the scores, but for what tells of the run that flagged.
    columns = [n for n in flags.columns if n in _AS_IT_IS or n not in candidates.columns]
    before = flags.where(~is_withdrawn()).select(*columns, F.col("suppressed_by"))
    before = before.withColumnsRenamed({name: f"{name}_before" for name in DECIDED})
    asked = candidates.join(before, _AS_IT_IS)
    again = decided_beside(context, asked, flags.join(asked, UNIT_KEY, "left_anti"))
    again = with_mutes(again, mutes(context, judged), judged)
    # What is allowed keeps nothing quiet, nor is it kept so.
    is_allowed = F.col("decision") == "allow"
    others = with_cool_down(context, again.where(~is_allowed), budget=None)
    again = others.unionByName(again.where(is_allowed))
    differs = [~F.col(name).eqNullSafe(F.col(f"{name}_before")) for name in DECIDED]
    return again.where(differs[0] | differs[1] | differs[2])


def _in_words(decision: str, by: str, suppressed: str | None) -> str:
    return f"{decision} ({by})" + (f", not shown: {suppressed}" if suppressed else "")
