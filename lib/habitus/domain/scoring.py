"""From sequences to scores and flags, one Arrow batch at a time.

Not every unit can be scored: one without a judged event, one of actions that training did not know,
one that a model has no number for. Such a unit has a note that says so, and is never rare. None is
too long for a model.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from habitus.domain.calibration import Calibration, Names
from habitus.domain.detectors.base import Detector, Scores
from habitus.domain.explain import reason_rows, summary
from habitus.domain.units import Units
from habitus.domain.vocabulary import RARE, Vocabulary
from habitus.setting_types import Language

# What is scored differs in the last bits with the other units of its batch; a score is rounded to
# what does not, so that a second run finds nothing to update.
_DECIMALS = 4

# Why a model cannot score a unit; by number, 0 is none.
NOTES = ("no event to judge", "every action is unknown to training", "the score is no number")
_EMPTY, _ALL_UNKNOWN, _NO_NUMBER = range(1, len(NOTES) + 1)

# So many reasons that a summary can say "14 times" of what happens again and again.
_SUMMARISED = 50
_TRACED = ["unit_id", "p_value", "event_ids", "event_times"]
_CARRIED = ("unit_kind", "unit_id", "user_id", "started_at", "event_date", "fingerprint")


def scores_of(detector: Detector, units: Units) -> Scores:
    """[N] the scores that are calibrated and kept."""
    scores: Scores = np.round(detector.score(units), _DECIMALS)
    return scores


def unscorable(units: Units) -> npt.NDArray[np.int64]:
    """[N] why no model can score each unit: 0, or one more than the note's index in `NOTES`."""
    ends = units.offsets[1:]
    starts = np.minimum(units.offsets[:-1] + units.scored_from, ends)
    known = np.concatenate([[0], np.cumsum(units.tokens["action"] != RARE)])
    all_unknown = np.where(known[ends] == known[starts], _ALL_UNKNOWN, 0)
    return np.where(ends == starts, _EMPTY, all_unknown)


def segment_names(column: pa.ListArray | pa.ChunkedArray) -> Names:
    """[N, L] the names in a column of N lists of L each."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    names: Names = column.flatten().to_numpy(zero_copy_only=False).astype(object)
    return names.reshape(len(column), len(names) // max(len(column), 1))


def score_batch(
    batch: pa.RecordBatch,
    units: Units,
    model_id: str,
    detector: Detector,
    calibration: Calibration,
) -> pa.RecordBatch:
    """Score units, and say of which rows of `sequences` they are.

    Args:
        batch: The rows, with columns `segment` and `fingerprint`.
        units: The same, as models read them.
        model_id: Of the model.
        detector: The model.
        calibration: Of its scores.

    Returns:
        Columns unit_kind, unit_id, user_id, started_at, event_date and fingerprint of the batch,
        and model_id, score, p_value, segment (the one the p-value compares with) and note (one of
        `NOTES`; then the score is 0 and the p-value 1).
    """
    why = unscorable(units)
    scores = np.zeros(len(units))
    scorable = np.flatnonzero(why == 0)
    if len(scorable):
        asked = units if len(scorable) == len(units) else units.take(scorable)
        scores[scorable] = scores_of(detector, asked)
    why[~np.isfinite(scores)] = _NO_NUMBER
    scores[why > 0] = 0.0
    p_values, used = calibration.p_values(scores, segment_names(batch.column("segment")))
    p_values[why > 0] = 1.0
    return pa.RecordBatch.from_pydict(
        {name: batch.column(name) for name in _CARRIED}
        | {
            "model_id": pa.repeat(model_id, len(batch)),
            "score": pa.array(scores, pa.float64()),
            "p_value": pa.array(p_values, pa.float64()),
            "segment": pa.array(used, pa.string()),
            "note": pa.array(np.array([None, *NOTES], dtype=object)[why], pa.string()),
        }
    )


def explain_batch(
    batch: pa.RecordBatch,
    detector: Detector,
    vocabulary: Vocabulary,
    count: int,
    language: Language,
) -> list[dict[str, object]]:
    """Explain the flagged units of a batch of `sequences` with a column `p_value`.

    Returns:
        For each unit its unit_id, its first `count` reasons, and a summary of these and more in the
        language.
    """
    units = Units.from_arrow(batch, vocabulary.field_names)
    rows = pa.Table.from_batches([batch]).select(_TRACED).to_pylist()
    explained = detector.explain(units, max(count, _SUMMARISED))
    return [
        {
            "unit_id": row["unit_id"],
            "reasons": reason_rows(reasons[:count], row["event_ids"], row["event_times"]),
            "summary": summary(reasons, vocabulary.unit_kind, row["p_value"], language),
        }
        for row, reasons in zip(rows, explained, strict=True)
    ]
