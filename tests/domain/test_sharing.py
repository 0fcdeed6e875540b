"""Flags are linked by what few others use at that time: the campaigns of a simulated shop."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from domain.simulation.samples import session_kinds, simulated
from pyspark.sql import DataFrame, SparkSession

from habitus.domain.linking import cases_of, with_components
from habitus.domain.sharing import edges_of, in_stretches, links_of, shared_stretches
from habitus.domain.stars import components
from habitus.loading import load_settings

pytestmark = pytest.mark.spark

SETTINGS = load_settings().cases
THINGS = {"device": "device", "network": "network", "counterparty": "seller"}
START = datetime(2026, 1, 1, tzinfo=UTC)


@cache
def shop(stealth: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Uses of things by all users of a shop; its attacks' sessions, each with its campaign.

    With one block of shoppers, campaigns of a kind are weeks apart.
    """
    events, labels = simulated(7, users=500, days=28, attack_share=0.03, stealth=stealth, mess=0.0)
    columns = ["session", "customer", "ts"]
    uses = pd.concat(
        [events[columns].assign(kind=kind, value=events[column]) for kind, column in THINGS.items()]
    ).dropna()
    uses.columns = ["unit_id", "user_id", "event_time", "kind", "value"]
    uses["event_time"] = uses.event_time.dt.tz_localize("UTC")
    flags = (
        events.groupby("session")
        .agg(user_id=("customer", "first"), event_time=("ts", "min"))
        .assign(event_time=lambda frame: frame.event_time.dt.tz_localize("UTC"))
        .join(session_kinds(labels).rename("attack"), how="inner")
        .sort_values(["attack", "event_time"])
    )
    pause = flags.groupby("attack").event_time.diff()
    apart = (pause > timedelta(days=4)).groupby(flags.attack).cumsum()
    flags["campaign"] = flags.attack + apart.astype(str)
    return uses, flags.rename_axis("unit_id").reset_index()


def held_by(flags: pd.DataFrame, uses: pd.DataFrame) -> pd.DataFrame:
    of_flags = uses[uses.unit_id.isin(flags.unit_id)]
    times = of_flags.groupby(["unit_id", "user_id", "kind", "value"]).event_time
    held = times.agg(used_from="min", used_until="max").reset_index()
    return held.merge(flags[["unit_id", "event_time"]], on="unit_id")


def frame_of(spark: SparkSession, rows: pd.DataFrame, *columns: str) -> DataFrame:
    return spark.createDataFrame(pa.Table.from_pandas(rows[list(columns)], preserve_index=False))


def linked(spark: SparkSession, flags: pd.DataFrame, uses: pd.DataFrame) -> DataFrame:
    held = held_by(flags, uses)
    things = in_stretches(frame_of(spark, held, *held.columns), SETTINGS.window)
    stretches = shared_stretches(things, SETTINGS.window)
    used = frame_of(spark, uses, "user_id", "event_time", "kind", "value")
    return links_of(things, stretches, used, SETTINGS.least_share)


def cases(flags: pd.DataFrame, links: pa.Table) -> list[dict[str, Any]]:
    told = pa.table(
        {
            "unit_id": pa.array(flags.unit_id),
            "user_id": pa.array(flags.user_id),
            "event_time": pa.array(flags.event_time, pa.timestamp("us", "UTC")),
            "p_value": pa.array(np.full(len(flags), 0.001)),
            "amount_sum": pa.array(np.zeros(len(flags))),
            "summary": pa.array([""] * len(flags)),
        }
    )
    window = int(SETTINGS.window.total_seconds() * 1e6)
    return cases_of(with_components(told, links, window), links, "en")


def cases_per_campaign(
    flags: pd.DataFrame, found: list[dict[str, Any]], attack: str
) -> Mapping[str, int]:
    case_of = {unit: at for at, case in enumerate(found) for unit in case["unit_ids"]}
    of_attack = flags[flags.attack == attack]
    numbers = of_attack.unit_id.map(case_of).groupby(of_attack.campaign).nunique()
    return {str(name): int(number) for name, number in numbers.items()}


def parts_of(flags: pd.DataFrame, uses: pd.DataFrame) -> int:
    """How many parts flags fall into between which no device and no network is shared."""
    parts: list[set[str]] = []
    for unit in flags.unit_id:
        own = uses[(uses.unit_id == unit) & uses.kind.isin(["device", "network"])]
        things = set(own.kind + own.value)
        linked_to = [part for part in parts if part & things]
        parts = [part for part in parts if not part & things] + [things.union(*linked_to)]
    return len(parts)


def test_careless_campaigns_of_many_accounts_are_one_case_each(spark: SparkSession) -> None:
    uses, flags = shop(0.0)
    found = cases(flags, linked(spark, flags, uses).toArrow())
    for attack in ("credential_stuffing", "fake_orders"):
        per_campaign = cases_per_campaign(flags, found, attack)
        assert len(per_campaign) > 1
        assert set(per_campaign.values()) == {1}


def test_careful_ones_are_few_cases_of_several_accounts(spark: SparkSession) -> None:
    uses, flags = shop(0.5)
    links = linked(spark, flags, uses)
    found = cases(flags, links.toArrow())
    stuffing, orders = (
        cases_per_campaign(flags, found, attack)
        for attack in ("credential_stuffing", "fake_orders")
    )
    assert max(stuffing.values()) <= 2
    # Who takes other machines for some of the accounts shares nothing between the parts.
    per_campaign = {**stuffing, **orders}
    for campaign, number in per_campaign.items():
        assert number <= parts_of(flags[flags.campaign == campaign], uses)
    accounts = flags[flags.campaign.isin(per_campaign)].user_id.nunique()
    assert 2 * sum(per_campaign.values()) <= accounts
    attack_of = dict(zip(flags.unit_id, flags.attack, strict=True))
    of_several = [case for case in found if len({attack_of[unit] for unit in case["unit_ids"]}) > 1]
    assert len(of_several) * 10 < len(found)

    # In rounds by Spark they are the same.
    told = frame_of(spark, flags, "unit_id", "user_id", "event_time")
    edges = edges_of(told, links, SETTINGS.window)
    label = {row["node"]: row["component"] for row in components(edges).collect()}
    parts: dict[str, set[str]] = {}
    for unit in flags.unit_id:
        parts.setdefault(label.get(unit, unit), set()).add(unit)
    assert sorted(map(sorted, parts.values())) == sorted(sorted(c["unit_ids"]) for c in found)


def uses_of(*rows: tuple[str, str, float, str]) -> pd.DataFrame:
    """Rows of unit, user, days and seller, one event each."""
    frame = pd.DataFrame(rows, columns=["unit_id", "user_id", "days", "value"])
    times = START + pd.to_timedelta((frame.days * 86400).round(), unit="s")
    return frame.assign(event_time=times, kind="counterparty").drop(columns="days")


def links_between(spark: SparkSession, flagged: list[str], uses: pd.DataFrame) -> list[Any]:
    flags = uses[uses.unit_id.isin(flagged)]
    rows = linked(spark, flags, uses).collect()
    return sorted((row["unit_id"], row["users"], row["flagged_users"]) for row in rows)


@pytest.mark.parametrize("few", [0, 1_000_000])
def test_only_those_count_who_use_a_thing_near_the_flags(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr("habitus.domain.joining._FEW", few)
    flagged = [("a", "ann", 20.0, "s"), ("b", "bob", 21.0, "s")]
    # A hundred honest buyers in seven weeks, of whom one bought in these days.
    honest = [(f"u{n}", f"h{n}", 17.5 - n / 4 if n < 70 else n - 45.9, "s") for n in range(100)]
    uses = uses_of(*flagged, *honest)
    assert links_between(spark, ["a", "b"], uses) == [("a", 5, 2), ("b", 5, 2)]


def test_flags_with_a_longer_pause_between_share_nothing(spark: SparkSession) -> None:
    uses = uses_of(("a", "ann", 1.0, "s"), ("b", "bob", 5.0, "s"), ("c", "cid", 7.9, "s"))
    assert links_between(spark, ["a", "b", "c"], uses) == [("b", 2, 2), ("c", 2, 2)]


def test_a_ring_within_hours_is_seen_at_a_seller_with_many_honest_buyers(
    spark: SparkSession,
) -> None:
    ring = [(f"r{n}", f"ring{n}", 20 + n / 100, "s") for n in range(15)]
    honest = [(f"u{n}", f"h{n}", 0.4 * n, "s") for n in range(100)]
    links = links_between(spark, [unit for unit, *_ in ring], uses_of(*ring, *honest))
    assert len(links) == len(ring)
    assert {(users, flagged) for _, users, flagged in links} == {(30, 15)}


def test_a_few_flags_at_a_seller_of_many_are_no_ring(spark: SparkSession) -> None:
    some = [(f"r{n}", f"user{n}", 20 + n / 2, "s") for n in range(3)]
    honest = [(f"u{n}", f"h{n}", 0.4 * n, "s") for n in range(100)]
    assert links_between(spark, [unit for unit, *_ in some], uses_of(*some, *honest)) == []


def test_four_hundred_accounts_tried_from_one_network_are_one_case(spark: SparkSession) -> None:
    tried = [(f"t{n:03}", f"victim{n}", 20 + n / 9600, "10.0.0.1") for n in range(400)]
    alone = [(f"a{n}", f"user{n}", 19.5 + n / 20, f"10.1.0.{n}") for n in range(20)]
    # Who owns the accounts, and others, come from elsewhere; a few are customers of that network.
    honest = [(f"h{n}", f"victim{n}", 18 + n / 100, f"10.2.0.{n}") for n in range(400)]
    neighbours = [(f"n{n}", f"neighbour{n}", 20 + n / 100, "10.0.0.1") for n in range(5)]
    uses = uses_of(*tried, *alone, *honest, *neighbours).assign(kind="network")
    flagged = uses.unit_id.isin([unit for unit, *_ in (*tried, *alone)])
    flags = uses[flagged].reset_index(drop=True)

    found = cases(flags, linked(spark, flags, uses).toArrow())

    assert sorted(case["n_users"] for case in found) == [1] * 20 + [400]
    ring = max(found, key=lambda case: case["n_users"])
    assert set(ring["unit_ids"]) == {unit for unit, *_ in tried}
