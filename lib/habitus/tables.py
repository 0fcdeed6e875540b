"""Every table of the lake, declared once.

A declaration creates the Delta table, checks frames before they are written, and prints the
table reference. Names and columns are a contract that readers rely on.
"""

from collections.abc import Iterable

from habitus.model_tables import ANOMALIES as ANOMALIES
from habitus.model_tables import CASES as CASES
from habitus.model_tables import EMBEDDINGS as EMBEDDINGS
from habitus.model_tables import EVALUATIONS as EVALUATIONS
from habitus.model_tables import FLAG_DAYS as FLAG_DAYS
from habitus.model_tables import NEIGHBOURS as NEIGHBOURS
from habitus.model_tables import REASONS as REASONS
from habitus.model_tables import SCORES as SCORES
from habitus.model_tables import VOLUME_SHIFTS as VOLUME_SHIFTS
from habitus.table import Column, Table, struct_of
from habitus.unit_columns import KIND, KINDS, UNIT, USER

_EVENT_FIELDS: tuple[Column, ...] = (
    Column("event_time", "timestamp", "When it happened, UTC.", required=True),
    Column("action", "string", "What the user did, in lower case.", required=True),
    Column("item_id", "string", "Item it was done to."),
    Column("category", "string", "Category of the item."),
    Column("counterparty_id", "string", "Seller, merchant or terminal on the other side."),
    Column("amount", "double", "Money involved, in the source's currency."),
    Column("outcome", "string", "How it ended: success, failure, ..."),
    Column("device_id", "string", "Device it was done with."),
    Column("network", "string", "Network it came from."),
    Column("channel", "string", "web, app, ..."),
)

EVENTS = Table(
    name="events",
    comment="One thing a user did.",
    columns=(
        Column("event_id", "string", "The source's id, or a hash of the content.", required=True),
        USER,
        *_EVENT_FIELDS,
        Column("session_hint", "string", "The source's own session id."),
        Column("attributes", "map<string,string>", "What else the source says.", required=True),
        Column("source", "string", "Name of the source mapping.", required=True),
        Column("ingested_at", "timestamp", "Start of the run that wrote it.", required=True),
        Column("event_date", "date", "Day of event_time, UTC.", required=True),
    ),
    key=("event_id",),
    cluster_by=("event_date", "user_id"),
    keeps_changes=True,
)

EVENTS_REJECTED = Table(
    name="events_rejected",
    comment="One source row that is not a valid event, or label.",
    columns=(
        Column("rejected_id", "string", "Hash of source and row.", required=True),
        Column("source", "string", "Name of the source mapping.", required=True),
        Column("raw", "string", "The row as JSON.", required=True),
        Column("reasons", "array<string>", "Every rule the row breaks.", required=True),
        Column("ingested_at", "timestamp", "Start of the run that wrote it.", required=True),
    ),
    key=("rejected_id",),
    checks={"a_reason_is_given": "size(reasons) > 0"},
)

LABELS = Table(
    name="labels",
    comment="What became known about a unit, and when.",
    columns=(
        Column("unit_kind", "string", "What it is about: event, session or user.", required=True),
        Column("unit_id", "string", "Id of that event, session or user.", required=True),
        Column("label", "boolean", "Whether the unit is anomalous.", required=True),
        Column("kind", "string", "Kind of anomaly, e.g. account_takeover."),
        Column("known_at", "timestamp", "When this became known.", required=True),
        Column("source", "string", "Who said so.", required=True),
    ),
    key=("unit_kind", "unit_id", "known_at"),
    checks=KINDS,
    cluster_by=("unit_id",),
    keeps_changes=True,
)

# An event as sessions hold it.
SESSION_EVENT: tuple[Column, ...] = (
    Column("event_id", "string", "Its id.", required=True),
    *_EVENT_FIELDS,
    Column("new_device", "boolean", "First event of the user with the device.", required=True),
    Column("new_network", "boolean", "First event of the user from the network.", required=True),
    Column("new_counterparty", "boolean", "First event with the counterparty.", required=True),
)

SESSIONS = Table(
    name="sessions",
    comment="Events of one user without a long pause between them.",
    columns=(
        Column("session_id", "string", "Hash of user and first event.", required=True),
        USER,
        Column("started_at", "timestamp", "Time of the first event.", required=True),
        Column("ended_at", "timestamp", "Time of the last event.", required=True),
        Column("duration_s", "double", "Seconds from first to last event.", required=True),
        Column("n_events", "int", "Number of events.", required=True),
        Column("closed", "boolean", "Whether no later event can join.", required=True),
        Column("end_reason", "string", "gap, hint, cap or open.", required=True),
        Column(
            "heavy",
            "boolean",
            "Whether it is a part of activity that caps cut: bots, resellers, shared accounts.",
            required=True,
        ),
        Column("n_actions", "map<string,int>", "Events by action.", required=True),
        Column("n_items", "int", "Distinct items.", required=True),
        Column("amount_sum", "double", "Sum of the amounts, 0 for none.", required=True),
        Column("event_ids", "array<string>", "Its events, in order.", required=True),
        Column(
            "events",
            f"array<struct<{struct_of(SESSION_EVENT)}>>",
            "Its events in order, with what was new to the user at each.",
            required=True,
        ),
        Column(
            "new_values",
            "array<struct<field: string, value: string, event_id: string, event_time: timestamp>>",
            "The devices, networks and counterparties that were new to the user, and when.",
            required=True,
        ),
        Column("session_hint", "string", "The source's session id, where the rule counts it."),
        Column("session_date", "date", "Day of started_at, UTC.", required=True),
    ),
    key=("session_id",),
    checks={
        "ends_after_start": "ended_at >= started_at",
        "end_reason_is_known": "end_reason in ('gap', 'hint', 'cap', 'open')",
    },
    cluster_by=("session_date", "user_id"),
    keeps_changes=True,
    marks_changes=True,
)


def features(names: Iterable[str]) -> Table:
    """The `features` table with these feature columns."""
    return Table(
        name="features",
        comment="What was known about a unit's entities just before it.",
        columns=(
            KIND,
            UNIT,
            USER,
            Column("as_of", "timestamp", "Only earlier events count.", required=True),
            *(Column(name, "double", "Feature declared in settings.") for name in names),
        ),
        key=("unit_kind", "unit_id"),
        checks=KINDS,
        cluster_by=("as_of",),
        marks_changes=True,
    )


def sequences(fields: Iterable[str]) -> Table:
    """The `sequences` table with one token array for each of these fields."""
    return Table(
        name="sequences",
        # Not clustered: training wants rows in random order.
        comment="A unit as arrays, ready for training and scoring.",
        columns=(
            UNIT,
            KIND,
            USER,
            Column("started_at", "timestamp", "Time of the first scored event.", required=True),
            Column("ended_at", "timestamp", "Time of the last scored event.", required=True),
            Column("n_events", "int", "Length of the arrays.", required=True),
            Column("scored_from", "int", "Index of the first scored event.", required=True),
            Column("closed", "boolean", "Whether the last event ends the unit.", required=True),
            *(
                Column(name, "array<int>", f"Tokens of the {name}.", required=True)
                for name in fields
            ),
            Column("amounts", "array<float>", "Amounts, 0 where none.", required=True),
            Column("gaps", "array<float>", "Seconds since the event before.", required=True),
            Column("context", "array<float>", "The unit's features, in order.", required=True),
            Column("event_ids", "array<string>", "Ids of the events.", required=True),
            Column("event_times", "array<timestamp>", "Times of the events.", required=True),
            Column("event_date", "date", "Day of started_at, UTC.", required=True),
            Column("vocabulary_id", "string", "Vocabulary of the tokens.", required=True),
            Column("fingerprint", "bigint", "Hash of the other columns.", required=True),
        ),
        key=("unit_id",),
        checks=KINDS,
    )


RUNS = Table(
    name="runs",
    comment="One run of one job.",
    columns=(
        Column("run_id", "string", "Random id.", required=True),
        Column("job", "string", "Name of the job.", required=True),
        Column("started_at", "timestamp", "Start, by the clock.", required=True),
        Column("ended_at", "timestamp", "End, by the clock; none while it runs."),
        Column("status", "string", "running, done or failed.", required=True),
        Column("inputs", "map<string,bigint>", "Tables read, with versions.", required=True),
        Column("outputs", "map<string,bigint>", "Tables written, with versions.", required=True),
        Column("rows_in", "map<string,bigint>", "Counts of what was read.", required=True),
        Column("rows_out", "map<string,bigint>", "Counts of what was written.", required=True),
        Column("settings", "string", "Resolved settings as JSON.", required=True),
        Column("error", "string", "Why it failed."),
    ),
    key=("run_id",),
    checks={"status_is_known": "status in ('running', 'done', 'failed')"},
)
