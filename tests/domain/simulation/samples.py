"""Simulated shops for tests, and what one can measure of a session."""

from datetime import UTC, datetime
from functools import lru_cache

import pandas as pd
from scipy.stats import rankdata

from habitus.config import SimulateSettings
from habitus.domain.simulation.shop import blocks, simulate_block

START = datetime(2026, 1, 5, tzinfo=UTC)
_SMALL = {
    "output": "unused",
    "start": START,
    "days": 28,
    "users": 2500,
    "items": 3000,
    "sellers": 150,
    "sessions_per_user_per_day": 0.3,
    "promotion_days": (24,),
    "promotion_traffic": 10,
    "attack_share": 0.02,
    "stealth": 0.5,
    "mess": 0.02,
}


def shop(**changes: object) -> SimulateSettings:
    return SimulateSettings.model_validate(_SMALL | changes)


@lru_cache
def simulated(seed: int = 7, **changes: object) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Events and labels of all blocks."""
    settings = shop(**changes)
    tables = [simulate_block(settings, seed, block) for block in range(blocks(settings))]
    events = pd.concat([table.to_pandas() for table, _ in tables], ignore_index=True)
    labels = pd.concat([table.to_pandas() for _, table in tables], ignore_index=True)
    return events, labels


def session_kinds(labels: pd.DataFrame) -> pd.Series:
    """Kind of attack by session id."""
    return labels[labels.unit_kind == "session"].set_index("unit_id").kind


def statistics(events: pd.DataFrame) -> pd.DataFrame:
    """Everything simple that can be said of one session, by session id."""
    gap = events.groupby("session").ts.diff().dt.total_seconds()
    failed = events.outcome == "failure"
    repeated = events.action == events.groupby("session").action.shift()
    frame = events.assign(gap=gap, failed=failed, repeated=repeated)
    sessions = frame.groupby("session")
    actions = pd.crosstab(events.session, events.action)
    found = pd.DataFrame(
        {
            "length": sessions.size(),
            "duration": (sessions.ts.max() - sessions.ts.min()).dt.total_seconds(),
            "amount_sum": sessions.amount.sum(),
            "amount_max": sessions.amount.max(),
            "amount_mean": sessions.amount.mean(),
            "items": sessions.item.nunique(),
            "sellers": sessions.seller.nunique(),
            "categories": sessions.category.nunique(),
            "kinds_of_action": sessions.action.nunique(),
            "failures": sessions.failed.sum(),
            "failed": sessions.failed.mean(),
            "repeated": sessions.repeated.mean(),
            "hour": sessions.ts.min().dt.hour,
            **{
                f"gap_{name}": getattr(sessions.gap, name)()
                for name in ("mean", "median", "std", "min", "max")
            },
        }
    ).fillna(0.0)
    shares = actions.div(actions.sum(axis=1), axis=0)
    return found.join(actions.add_prefix("count_")).join(shares.add_prefix("share_"))


def separation(values: pd.Series, marked: pd.Series) -> float:
    """Area under the ROC curve, whichever direction separates."""
    ranks = rankdata(values.to_numpy())
    positives, negatives = int(marked.sum()), int((~marked).sum())
    area = (ranks[marked.to_numpy()].sum() - positives * (positives + 1) / 2) / (
        positives * negatives
    )
    return float(max(area, 1 - area))


def surroundings(events: pd.DataFrame) -> pd.DataFrame:
    """What order, repetition, novelty and counterparties say of a session, by session id."""
    events = events.sort_values(["customer", "ts"], kind="stable")
    session = events.groupby("session")
    visits = session.first()[["customer", "device", "network", "ts"]].sort_values("ts")
    number = events.item.str.slice(1).astype("float")
    events = events.assign(
        follows=number.diff() == 1,
        bought=events.action.eq("payment"),
        sent_back=events.action.eq("refund"),
        failed=events.outcome.eq("failure"),
    )
    of_customer = events.groupby("customer")
    sales = events.groupby(["customer", "seller"]).bought.sum()
    found = pd.DataFrame(
        {
            "in_order": events.groupby("session").follows.mean(),
            "most_of_one_item": events.groupby(["session", "item"]).size().groupby("session").max(),
            "new_device": ~visits.duplicated(["customer", "device"]),
            "new_network": ~visits.duplicated(["customer", "network"]),
            "age": visits.ts - visits.customer.map(of_customer.ts.min()),
            "device_users": visits.device.map(visits.groupby("device").customer.nunique()),
            "network_users": visits.network.map(visits.groupby("network").customer.nunique()),
            "network_failures": visits.network.map(events.groupby("network").failed.mean()),
            "one_seller": visits.customer.map(sales.groupby("customer").max()),
            "refunds": visits.customer.map(of_customer.sent_back.sum()),
            "purchases": visits.customer.map(of_customer.bought.sum()),
        }
    )
    found["age"] = found.age.dt.total_seconds()
    return found.astype(float).fillna(0.0)
