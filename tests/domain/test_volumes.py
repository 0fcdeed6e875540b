"""Volumes counted from a handful of events."""

from datetime import timedelta

import pytest
from event_streams import START, event, frame, ingested
from pyspark.sql import DataFrame, SparkSession

from habitus.domain.vocabulary import Split
from habitus.domain.volumes import OTHERS, complete_series, count_volumes, name_segments
from habitus.loading import load_settings
from habitus.tables import EVENTS
from habitus.volume_settings import VolumeSettings

pytestmark = pytest.mark.spark

SPLIT = Split(
    train_from=START,
    train_until=START + timedelta(hours=3),
    calibrate_from=START + timedelta(hours=4),
    validation_until=START + timedelta(hours=5),
)
# Hour, seller, category, outcome.
HAPPENED = [
    (0, "a", "toys", "success"),
    (0, "a", "toys", "failure"),
    (1, "a", "books", None),
    (1, "b", "toys", "failure"),
    (1, None, "toys", "failure"),
    (2, "a", "books", "success"),
    (4, "a", "toys", "success"),
    (4, "new", "toys", "success"),
    (5, "a", "toys", "success"),
]


def settings(most: int = 10) -> VolumeSettings:
    return load_settings(
        overrides=[
            "volumes.segments={shop: null, channel: null, country: null}",
            "volumes.measures.amount=null",
            "volumes.minimum_periods=2",
            f"volumes.most_segments={most}",
        ]
    ).volumes


def counted(spark: SparkSession) -> DataFrame:
    rows = [
        event(
            "u",
            hour * 3600 + 7,
            f"e{index}",
            counterparty_id=seller,
            category=category,
            outcome=outcome,
        )
        for index, (hour, seller, category, outcome) in enumerate(HAPPENED)
    ]
    return count_volumes(frame(spark, EVENTS, ingested(rows)), settings())


def test_events_and_measures_are_counted_by_segment_and_period(spark: SparkSession) -> None:
    volumes = counted(spark)

    sellers = volumes.where("segment_kind = 'seller'").orderBy("period_start", "segment")
    found = [
        (row["segment"], row["period_start"].hour, row["events"], row["failures"])
        for row in sellers.collect()
    ]
    assert found == [
        ("a", 0, 2, 1),
        (None, 1, 1, 1),
        ("a", 1, 1, 0),
        ("b", 1, 1, 1),
        ("a", 2, 1, 0),
        ("a", 4, 1, 0),
        ("new", 4, 1, 0),
        ("a", 5, 1, 0),
    ]
    assert volumes.where("segment_kind = 'category'").agg({"events": "sum"}).first()[0] == 9  # type: ignore[index]


# Books are sold in two training hours, as toys are, but less of them.
@pytest.mark.parametrize(("most", "books"), [(10, "books"), (1, OTHERS)])
def test_small_and_unknown_segments_fall_together(
    spark: SparkSession, most: int, books: str
) -> None:
    names = name_segments(counted(spark), settings(most), SPLIT).collect()

    named = {"a": "a", "b": OTHERS, "new": OTHERS, "toys": "toys", "books": books}
    assert {row["segment"]: row["name"] for row in names} == named
    assert {row["segment"]: row["trained"] for row in names}["new"] == 0


def test_every_segment_has_every_period_but_the_last(spark: SparkSession) -> None:
    volumes = counted(spark)
    names = name_segments(volumes, settings(), SPLIT)

    series = complete_series(
        volumes, names, settings(), START, START + timedelta(hours=5, minutes=7)
    )

    rows = series.where("segment_kind = 'seller'").orderBy("segment", "period_start").collect()
    found = [(row["segment"], row["events"], row["failures"], row["elsewhere"]) for row in rows]
    assert found == [
        (OTHERS, 0, 0, 2),
        (OTHERS, 1, 1, 1),
        (OTHERS, 0, 0, 1),
        (OTHERS, 0, 0, 0),
        (OTHERS, 1, 0, 1),
        ("a", 2, 1, 0),
        ("a", 1, 0, 1),
        ("a", 1, 0, 0),
        ("a", 0, 0, 0),
        ("a", 1, 0, 0),  # of what training did not know nothing counts
    ]
    assert [row["period_start"].hour for row in rows[:5]] == [0, 1, 2, 3, 4]
