"""The tables of what models find: scores, flags, what became of them, and shifts of volume."""

from habitus.table import Column, Table
from habitus.unit_columns import KIND, KINDS, UNIT, USER

_MODEL = Column("model_id", "string", "The model: detector and fingerprint.", required=True)
_SCORE: tuple[Column, ...] = (
    KIND,
    UNIT,
    USER,
    Column("event_time", "timestamp", "Start of the unit.", required=True),
    Column("score", "double", "Higher is stranger; comparable within a model.", required=True),
    Column("p_value", "double", "Share of normal units at least as strange.", required=True),
    Column(
        "segment",
        "string",
        "What the p-value compares with: the smallest segment known well enough, or all.",
        required=True,
    ),
)
_DAY = Column("event_date", "date", "Day of event_time, UTC.", required=True)
_P_VALUE = {"p_value_is_a_share": "p_value > 0 and p_value <= 1"}

SCORES = Table(
    name="scores",
    comment="How strange a model finds a unit.",
    columns=(
        *_SCORE,
        _MODEL,
        Column(
            "note", "string", "Why the model cannot score it: score and p-value mean nothing then."
        ),
        Column("fingerprint", "bigint", "Hash of the unit as it was scored.", required=True),
        Column("scored_at", "timestamp", "Start of the run that scored it.", required=True),
        _DAY,
    ),
    key=("unit_kind", "unit_id", "model_id"),
    checks=_P_VALUE | KINDS | {"what_has_a_note_is_not_rare": "note is null or p_value = 1"},
    cluster_by=("event_date",),
)

REASONS = Column.of_structs(
    "reasons",
    "What is strange, most first.",
    Column("rank", "int", "Its place, from 1."),
    Column("event_index", "int", "The event's place in the unit, from 0; none: the whole unit."),
    Column("event_id", "string", "The event's id; none: the whole unit."),
    Column("event_time", "timestamp", "Time of that event."),
    Column("field", "string", "Field of the event, or feature of the unit."),
    Column("observed", "string", "What was seen, in words."),
    Column.of_structs(
        "expected",
        "Likelier values, the likeliest first.",
        Column("value", "string", "The value, in words."),
        Column("probability", "double", "How likely it was."),
    ),
    Column("surprise", "double", "How unlikely what was seen is, in bits."),
    Column("share", "double", "Share of all the unit's surprise."),
    Column("against", "string", "What it is strange beside: sequence, history or peers."),
)

ANOMALIES = Table(
    name="anomalies",
    comment="A unit worth a look, with reasons and a decision.",
    columns=(
        *_SCORE,
        Column("severity", "string", "low, medium, high or critical.", required=True),
        REASONS,
        Column("summary", "string", "The reasons in one sentence.", required=True),
        Column("decision", "string", "What to do.", required=True),
        Column("decided_by", "string", "The rule's reason, or the severity.", required=True),
        Column("suppressed_by", "string", "What keeps it from being shown; none if nothing."),
        Column("status", "string", "Where its handling stands; open at first.", required=True),
        _MODEL,
        Column("run_id", "string", "The run that last judged it otherwise.", required=True),
        Column("scored_at", "timestamp", "Start of that run.", required=True),
        _DAY,
    ),
    key=("unit_kind", "unit_id", "model_id"),
    checks=_P_VALUE
    | KINDS
    | {
        "severity_is_known": "severity in ('low', 'medium', 'high', 'critical')",
        "decision_is_known": "decision in "
        "('allow', 'watch', 'challenge', 'restrict', 'freeze', 'block')",
    },
    cluster_by=("event_date",),
    contract=1,
)

FLAG_DAYS = Table(
    name="flag_days",
    comment="What became of a day's units when flags were last chosen, the budget's cut included.",
    columns=(
        _MODEL,
        KIND,
        Column("event_date", "date", "Day on which the units started, UTC.", required=True),
        Column("units", "bigint", "Units, with those that the model cannot score.", required=True),
        Column("rare", "bigint", "Of those, rare enough to flag.", required=True),
        Column(
            "suppressed",
            "bigint",
            "Of the rare, kept quiet by a rule or a cool-down, muted or allowed.",
            required=True,
        ),
        Column(
            "flagged",
            "bigint",
            "Of the rare, shown: those within the budget, and any with a verdict.",
            required=True,
        ),
        Column("cut", "bigint", "Of the rare, cut by the budget.", required=True),
        Column("budget_per_day", "int", "Most flags of the day.", required=True),
        Column("false_positive_rate", "double", "Largest p-value that was rare.", required=True),
        Column("false_discovery_rate", "double", "Largest share of false flags; none: any."),
        Column("cost_threshold", "double", "Largest p-value worth its cost; none: any."),
        Column("precision_threshold", "double", "Largest p-value precise by reviews; none: any."),
        Column("counted_from", "timestamp", "Units that ended since then count.", required=True),
        Column("counted_until", "timestamp", "Only those that ended before; none: all count."),
        Column("run_id", "string", "The run that last judged it otherwise.", required=True),
        Column("scored_at", "timestamp", "Start of that run.", required=True),
    ),
    key=("model_id", "unit_kind", "event_date"),
    checks=KINDS | {"every_rare_unit_is_counted": "rare = suppressed + flagged + cut"},
    cluster_by=("event_date",),
    contract=2,
)

_EMBEDDED: tuple[Column, ...] = (
    KIND,
    UNIT,
    USER,
    Column("event_time", "timestamp", "Start of the unit.", required=True),
    Column("ended_at", "timestamp", "Time of the unit's last event.", required=True),
    _MODEL,
)

EMBEDDINGS = Table(
    name="embeddings",
    comment="A unit as a vector: what the behaviour model remembers of it.",
    columns=(
        *_EMBEDDED,
        Column("vector", "array<float>", "Of length 1; like units point alike.", required=True),
        Column("fingerprint", "bigint", "Hash of the row of sequences it is of.", required=True),
        Column("embedded_at", "timestamp", "Start of the run that made it.", required=True),
        Column("event_date", "date", "Day of event_time, UTC.", required=True),
    ),
    key=("unit_kind", "unit_id", "model_id"),
    checks=KINDS,
    cluster_by=("event_date",),
)

_PAST = (
    Column("similarity", "double", "Cosine of the vectors, -1 to 1."),
    Column("ended_at", "timestamp", "Time of its last event."),
    Column("unit_id", "string", "The unit."),
    Column("user_id", "string", "Its user."),
)

NEIGHBOURS = Table(
    name="neighbours",
    comment="The units most like a flagged one among those that ended before it started.",
    columns=(
        *_EMBEDDED,
        Column.of_structs("of_user", "Of its user, the most alike first.", *_PAST),
        Column.of_structs("of_others", "Of other users, likewise.", *_PAST),
        Column("found_at", "timestamp", "Start of the run that found them.", required=True),
        Column("event_date", "date", "Day of event_time, UTC.", required=True),
    ),
    key=("unit_kind", "unit_id", "model_id"),
    checks=KINDS,
    cluster_by=("event_date",),
)

_SHARED = Column.of_structs(
    "shared",
    "What links the users, most first.",
    Column("kind", "string", "What it is: device, network, ..."),
    Column("value", "string", "Which one."),
    Column("users", "bigint", "How many users used it around that time."),
    Column("flagged_users", "bigint", "How many of them have flags."),
)

CASES = Table(
    name="cases",
    comment="Flags that belong together: of one user, or of users who share what few others use.",
    columns=(
        Column("case_id", "string", "Hash of the flagged unit that was its first.", required=True),
        _MODEL,
        Column("kind", "string", "user or ring, that is of several users.", required=True),
        Column("started_at", "timestamp", "Time of the first flag.", required=True),
        Column("ended_at", "timestamp", "Time of the last flag.", required=True),
        Column("n_users", "int", "Number of users.", required=True),
        Column("n_flags", "int", "Number of flags.", required=True),
        Column("amount_sum", "double", "Sum of the flagged units' amounts.", required=True),
        Column("p_value", "double", "The least of the flags'.", required=True),
        Column("user_ids", "array<string>", "The users.", required=True),
        Column("unit_ids", "array<string>", "The flagged units, in time.", required=True),
        _SHARED,
        Column("summary", "string", "The case in one sentence.", required=True),
        Column("status", "string", "Where its handling stands; open at first.", required=True),
        Column("run_id", "string", "The run that last made it otherwise.", required=True),
        Column("made_at", "timestamp", "Start of that run.", required=True),
        Column("event_date", "date", "Day of started_at, UTC.", required=True),
    ),
    key=("case_id", "model_id"),
    checks=_P_VALUE
    | {
        "kind_is_known": "kind in ('user', 'ring')",
        "ends_after_start": "ended_at >= started_at",
        "all_are_listed": "size(user_ids) = n_users and size(unit_ids) = n_flags",
    },
    cluster_by=("event_date",),
    contract=1,
)

EVALUATIONS = Table(
    name="evaluations",
    comment="One figure of one model on one kind of anomaly in the test period.",
    columns=(
        _MODEL,
        Column("detector", "string", "Its name; of an ensemble, perhaps without a member.", True),
        Column("kind", "string", "Kind of anomaly, or all.", required=True),
        Column(
            "measure",
            "string",
            "auc, average_precision, recall_at_..., precision_at_budget; of the comparison over "
            "blocks: average_precision_behind_best, average_precision_added (by an ensemble's "
            "member); of detectors trained for each block anew: "
            "refitted_average_precision(_behind_best).",
            required=True,
        ),
        Column("value", "double", "The figure; none where it is not defined."),
        Column("low", "double", "Lower end of its bootstrap interval."),
        Column("high", "double", "Upper end of its bootstrap interval."),
        Column("units", "bigint", "Units judged.", required=True),
        Column("anomalous", "bigint", "Units labelled as this kind.", required=True),
    ),
    key=("model_id", "kind", "measure"),
)

VOLUME_SHIFTS = Table(
    name="volume_shifts",
    comment="A stretch of time in which a segment's volume is not what it should be, by the models "
    "of the last run.",
    columns=(
        Column("segment_kind", "string", "Kind of segment: seller, category, ...", required=True),
        Column("segment", "string", "The segment; (others) for those too small.", required=True),
        Column("measure", "string", "events, or a measure of the settings.", required=True),
        Column("period_start", "timestamp", "When it began, UTC.", required=True),
        Column("period_end", "timestamp", "When it was over, or data ended, UTC.", required=True),
        Column("periods", "int", "Hours or days it lasts.", required=True),
        Column("observed", "double", "The measure, summed over them.", required=True),
        Column("expected", "double", "The sum of one-step-ahead forecasts.", required=True),
        Column("low", "double", "A sum below this is flagged.", required=True),
        Column("high", "double", "A sum above this is flagged.", required=True),
        Column("p_value", "double", "Share of usual periods at least as strange.", required=True),
        Column("model", "string", "Season and ARIMA order of the forecasts.", required=True),
        Column("summary", "string", "All this in one sentence.", required=True),
        Column("run_id", "string", "The run that found it.", required=True),
        Column("scored_at", "timestamp", "Start of that run.", required=True),
        Column("event_date", "date", "Day of period_start, UTC.", required=True),
    ),
    key=("segment_kind", "segment", "measure", "period_start"),
    checks=_P_VALUE | {"ends_after_start": "period_end > period_start"},
    cluster_by=("event_date",),
)
