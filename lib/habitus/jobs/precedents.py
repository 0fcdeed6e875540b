"""The past units that flagged ones are most like, told for the report."""

from collections import Counter
from collections.abc import Mapping, Sequence

from pyspark.sql import Row
from pyspark.sql import functions as F

from habitus.domain.labelling import unit_labels
from habitus.domain.reporting.cases import PastUnit
from habitus.domain.vocabulary import FieldVocabulary, Vocabulary
from habitus.edges.models import load_model
from habitus.jobs.embed import EMBEDDER
from habitus.jobs.frame import JobContext
from habitus.jobs.judging import known_vocabulary, models_that_score
from habitus.tables import ANOMALIES, LABELS, NEIGHBOURS, sequences

_TOLD = 3
_ACTIONS = 4


def precedents(
    context: JobContext, model_id: str, unit_ids: Sequence[str]
) -> Mapping[str, tuple[PastUnit, ...]]:
    """For these few flagged units the past ones most like them, where `embed` has found any.

    None where `sequences` were made anew since, in words that its model does not know.

    Args:
        context: The run.
        model_id: The model that flags.
        unit_ids: The flagged units.

    Returns:
        Flagged unit -> past units, its user's and others' together, the most alike first.
    """
    embedder = models_that_score(context).get(EMBEDDER)
    if embedder is None or not context.lake.exists(NEIGHBOURS):
        return {}
    vocabulary = load_model(context.artefacts.root, embedder).vocabulary
    if known_vocabulary(context, vocabulary) != vocabulary.vocabulary_id:
        return {}
    rows = (
        context.read(NEIGHBOURS)
        .where((F.col("model_id") == embedder) & F.col("unit_id").isin(list(unit_ids)))
        .select("unit_id", "user_id", F.concat("of_user", "of_others").alias("past"))
        .collect()
    )
    nearest = {
        row["unit_id"]: (row["user_id"], sorted(row["past"], reverse=True)[:_TOLD]) for row in rows
    }
    wanted = {past["unit_id"] for _, found in nearest.values() for past in found}
    known = _known(context, model_id, vocabulary, sorted(wanted)) if wanted else {}
    return {
        unit_id: tuple(_told(past, user, known) for past in found if past["unit_id"] in known)
        for unit_id, (user, found) in nearest.items()
    }


def _known(
    context: JobContext, model_id: str, vocabulary: Vocabulary, unit_ids: Sequence[str]
) -> dict[str, tuple[str, tuple[str, ...], str | None]]:
    """Past unit -> what was done, its known kinds of anomaly, and the severity of its flag."""
    units = context.read(sequences(vocabulary.field_names))
    units = units.where(F.col("unit_id").isin(list(unit_ids)))
    kinds = unit_labels(context.read_or_empty(LABELS), units).groupBy("unit_id")
    flags = context.read(ANOMALIES).where(F.col("model_id") == model_id)
    judged = F.slice("action", F.col("scored_from") + 1, F.col("n_events"))
    rows = (
        units.select("unit_id", judged.alias("actions"))
        .join(kinds.agg(F.sort_array(F.collect_set("kind")).alias("kinds")), "unit_id", "left")
        .join(flags.select("unit_id", "severity"), "unit_id", "left")
        .collect()
    )
    actions = vocabulary.field("action")
    return {
        row["unit_id"]: (
            in_words(row["actions"], actions),
            tuple(row["kinds"] or ()),
            row["severity"],
        )
        for row in rows
    }


def in_words(tokens: Sequence[int], actions: FieldVocabulary) -> str:
    """What was done, the most frequent first: "view 5 times, cart, payment"."""
    counts = Counter(tokens).most_common()
    told = [
        actions.describe(token).replace("_", " ") + (f" {times} times" if times > 1 else "")
        for token, times in counts[:_ACTIONS]
    ]
    return ", ".join(told) + (", ..." if len(counts) > _ACTIONS else "")


def _told(
    past: Row, user: str, known: Mapping[str, tuple[str, tuple[str, ...], str | None]]
) -> PastUnit:
    happened, kinds, severity = known[past["unit_id"]]
    return PastUnit(
        user_id=past["user_id"],
        own=past["user_id"] == user,
        ended_at=past["ended_at"],
        similarity=past["similarity"],
        happened=happened,
        kinds=kinds,
        severity=severity,
    )
