"""What the report shows: bounded records and arrays, whatever the size of the lake."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime

import numpy as np
import numpy.typing as npt

from habitus.domain.evaluation import Evaluation
from habitus.domain.reporting.cases import Case, Flag
from habitus.setting_types import UnitKind

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Outcome:
    """What became of the flags on which the same was decided.

    Args:
        flags: How many there are.
        anomalous: Of them, labelled as an anomaly or confirmed by an analyst.
        dismissed: Of the others, dismissed by an analyst or labelled as normal.
    """

    flags: int
    anomalous: int
    dismissed: int


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
        history: Measure -> value by epoch, for `loss`, `validation_loss`, ...; empty for a model
            that is fitted in one go.
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
        days: How many days back, from the last, flags are shown and counted.
        has_cases: Whether flags are put together into cases; else each flag is one.
        cases: Those of the last days, the last day first, the strangest of a day first.
        cases_in_all: How many there are.
        flags: Flags in the same order.
        flags_in_all: How many there are.
        by_day: Day -> severity -> flags.
        decisions_by_day: Day -> decision -> flags.
        outcomes: Decision -> what became of the flags.
        hidden: What keeps flags from being shown -> how many.
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
    days: int
    has_cases: bool
    cases: tuple[Case, ...]
    cases_in_all: int
    flags: tuple[Flag, ...]
    flags_in_all: int
    by_day: Mapping[date, Mapping[str, int]]
    scores: ScoreHistogram | None
    sample: UnitSample
    decisions_by_day: Mapping[date, Mapping[str, int]] = field(default_factory=dict)
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)
    hidden: Mapping[str, int] = field(default_factory=dict)
    evaluations: tuple[Evaluation, ...] = ()
    curves: tuple[Curve, ...] = ()
    models: tuple[Model, ...] = ()
    shifts: tuple[Shift, ...] = ()
    steps: tuple[Step, ...] = ()
    table_rows: Mapping[str, int] = field(default_factory=dict)
