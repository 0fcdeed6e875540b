"""How the names of fields and features read in English."""

import re
from collections.abc import Mapping

_ENTITIES = ("user", "counterparty", "device", "network", "item")
_WINDOW = re.compile(r"_(\d+)(d|h|min|s|us)$")
_LENGTHS = {"d": "day", "h": "hour", "min": "minute", "s": "second", "us": "microsecond"}
# Measures as they stand in names of features, and the words for each; {} is what more the name
# says: what is counted, or of which events.
_MEASURES: Mapping[str, str] = {
    "count": "{} events",
    "amount_sum": "sum of {} amounts",
    "amount_mean": "mean {} amount",
    "amount_max": "largest {} amount",
    "amount_median": "median {} amount",
    "amount_peak": "largest {} amount over the median",
    "amount_zscore": "deviations of the amount from the mean {} amount",
    "amount_ratio": "amount over the mean {} amount",
    "amount_multiple": "amount over the median {} amount",
    "amount_anomalous_mean": "mean amount of known {} anomalies",
    "distinct": "number of different {}",
    "entropy": "entropy of {} in bits",
    "share": "share of {} events",
    "since_last": "seconds since the last {} event",
    "new": "lack of any {} event",
    "risk": "share of known anomalies among {} labels",
    "anomalies": "known {} anomalies",
    "since_anomaly": "seconds since the last known {} anomaly",
    "since_first_anomaly": "seconds since the first known {} anomaly",
}
_PLURALS = {"counterparty": "counterparties", "category": "categories"}
# One may begin like another: the longest that fits is meant.
_BY_LENGTH = sorted(_MEASURES, key=len, reverse=True)


def in_words(name: str) -> str:
    """The name of a field, or of a feature as in `features`.

    >>> in_words("user_device_count_failure_1d")
    "the user's failure events with the device of the last day"
    """
    return feature_in_words(name) or name.replace("_", " ")


def feature_in_words(name: str) -> str | None:
    """The name of a feature as in `features`; none if it is another name."""
    window = _WINDOW.search(name)
    if window is None:
        return None
    entities, rest = _entities(name[: window.start()])
    measure = next((one for one in _BY_LENGTH if f"{rest}_".startswith(f"{one}_")), None)
    if not entities or measure is None:
        return None
    more = rest[len(measure) + 1 :].replace("_", " ")
    if measure in ("distinct", "entropy"):
        of, _, where = more.partition(" ")
        more = f"{_PLURALS.get(of, f'{of}s')}{f' of {where} events' * bool(where)}"
    measured = " ".join(_MEASURES[measure].format(more).split())
    with_ = "".join(f" with the {entity}" for entity in entities[1:])
    return f"the {entities[0]}'s {measured}{with_} of the last {_length(*window.groups())}"


def _entities(name: str) -> tuple[list[str], str]:
    """The one or two entities that a name begins with, and the rest."""
    entities: list[str] = []
    while len(entities) < 2:
        first, _, rest = name.partition("_")
        if first not in _ENTITIES:
            break
        entities.append(first)
        name = rest
    return entities, name


def _length(number: str, unit: str) -> str:
    return _LENGTHS[unit] if number == "1" else f"{number} {_LENGTHS[unit]}s"
