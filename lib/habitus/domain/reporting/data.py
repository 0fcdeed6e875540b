"""What the report shows: bounded records and arrays, whatever the size of the lake."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime

import numpy as np
import numpy.typing as npt

from habitus.domain.detectors.base import Reason
from habitus.domain.evaluation import Evaluation
from habitus.setting_types import UnitKind

Floats = npt.NDArray[np.float64]

SEVERITIES = ("critical", "high", "medium", "low")


@dataclass(frozen=True)
class CaseEvent:
    """One event of a case.

    Args:
        time: When it happened, UTC.
        action: What the user did.
        detail: What is known beside it: item, amount, outcome, ...
        judged: Whether it is judged rather than history.
        surprise: Field -> bits of surprise.
    """

    time: datetime
    action: str
    detail: str
    judged: bool
    surprise: Mapping[str, float]

    @property
    def bits(self) -> float:
        """Surprise of all fields together."""
        return sum(self.surprise.values())


@dataclass(frozen=True)
class Flag:
    """One flagged unit: a row of `anomalies`, and the kinds it is known to be by now."""

    unit_id: str
    user_id: str
    event_time: datetime
    score: float
    p_value: float
    severity: str
    summary: str
    decision: str
    status: str
    kinds: tuple[str, ...] = ()


@dataclass(frozen=True)
class PastUnit:
    """A unit of the past that a flagged one is like.

    Args:
        user_id: Whose it was.
        own: Whether the flagged one is the same user's.
        ended_at: When it ended, UTC.
        similarity: Cosine of the two vectors.
        happened: What was done, the most frequent first.
        kinds: The kinds of anomaly that it is known to be by now.
        severity: Of its own flag; none if it has none.
    """

    user_id: str
    own: bool
    ended_at: datetime
    similarity: float
    happened: str
    kinds: tuple[str, ...]
    severity: str | None


@dataclass(frozen=True)
class Case:
    """A flag told in full; `nearest` is empty where `embed` has not found any."""

    flag: Flag
    reasons: tuple[Reason, ...]
    events: tuple[CaseEvent, ...]
    nearest: tuple[PastUnit, ...] = ()


@dataclass(frozen=True)
class ScoreHistogram:
    """How the scores of the alerting detector are spread.

    Args:
        edges: [K + 1] bounds of the bins.
        units: [K] units in each bin.
        flagged: [K] flagged units in each bin.
        threshold: Lowest score with a p-value that may be flagged; none when no unit has one.
    """

    edges: Floats
    units: Floats
    flagged: Floats
    threshold: float | None


@dataclass(frozen=True)
class UnitSample:
    """Some units as points.

    Args:
        n_events: [S] number of events.
        surprise: [S] -log10 of the p-value.
        flagged: [S] whether the unit is flagged; all flagged units of the report are there.
    """

    n_events: Floats
    surprise: Floats
    flagged: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Curve:
    """A detector's precision-recall curve over all kinds: [P] points each."""

    detector: str
    precision: Floats
    recall: Floats
    share_anomalous: float


@dataclass(frozen=True)
class Model:
    """A model in use.

    Args:
        card: Its model card, Markdown.
        history: Measure -> value by epoch, for `loss`, `val_loss`, ...; empty for a model that
            is fitted in one go.
    """

    model_id: str
    detector: str
    card: str
    history: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True)
class Step:
    """The last finished run of a job."""

    job: str
    seconds: float
    rows_in: Mapping[str, int]
    rows_out: Mapping[str, int]


@dataclass(frozen=True)
class Shift:
    """A sudden shift of a segment's volume: a row of `volume_shifts`."""

    period_start: datetime
    p_value: float
    summary: str


@dataclass(frozen=True)
class ReportData:
    """Everything the report shows.

    Args:
        made_at: When the report's run started, UTC.
        place: The lake's root.
        unit_kind: What was judged.
        detector: The detector that flags.
        budget_per_day: Most flags a day.
        false_positive_rate: Largest p-value that is flagged.
        first_day, last_day: Days of the scored units; none without any.
        units: Units scored by the detector that flags.
        cases: The strangest units in full, the strangest first.
        flags: More of them in short, the strangest first.
        flags_in_all: How many flags there are.
        by_day: Day -> severity -> flags.
        scores: How the scores are spread; none without any.
        sample: Some units as points.
        evaluations: Figures against labels; empty without labels.
        curves: Precision-recall curves; empty without labels.
        models: The models in use.
        shifts: The strangest shifts of whole segments, the strangest first.
        steps: The last run of each job, in the order of their starts.
        table_rows: Table -> rows.
    """

    made_at: datetime
    place: str
    unit_kind: UnitKind
    detector: str
    budget_per_day: int
    false_positive_rate: float
    first_day: date | None
    last_day: date | None
    units: int
    cases: tuple[Case, ...]
    flags: tuple[Flag, ...]
    flags_in_all: int
    by_day: Mapping[date, Mapping[str, int]]
    scores: ScoreHistogram | None
    sample: UnitSample
    evaluations: tuple[Evaluation, ...] = ()
    curves: tuple[Curve, ...] = ()
    models: tuple[Model, ...] = ()
    shifts: tuple[Shift, ...] = ()
    steps: tuple[Step, ...] = ()
    table_rows: Mapping[str, int] = field(default_factory=dict)
