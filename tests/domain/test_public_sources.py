"""Rows in the form in which public data are published become the events they mean."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from habitus.domain.events import judge, row_labels, valid_events
from habitus.domain.mapping import SourceMapping, load_mapping
from habitus.loading import configuration_folder

pytestmark = pytest.mark.spark

INGESTED = datetime(2026, 1, 1, tzinfo=UTC)


def published(name: str) -> SourceMapping:
    return load_mapping(str(configuration_folder() / "sources" / f"{name}.yaml"))


def of_text(spark: SparkSession, folder: Path, name: str, text: str) -> DataFrame:
    """Rows of a csv file as its mapping has it read, judged."""
    (folder / "rows.csv").write_text(text)
    mapping = published(name)
    reader = spark.read.options(**mapping.options)
    if mapping.columns_in:
        reader = reader.schema(mapping.columns_in)
    return judge(reader.csv(str(folder / "rows.csv")), mapping, INGESTED)


def of_parquet(
    spark: SparkSession, folder: Path, name: str, columns: str, lines: list[tuple[Any, ...]]
) -> DataFrame:
    """Rows of one parquet file, judged."""
    place = str(folder / "rows")
    spark.createDataFrame(lines, columns).coalesce(1).write.parquet(place)
    return judge(spark.read.parquet(place), published(name), INGESTED)


def told(frame: DataFrame, *names: str) -> list[tuple[Any, ...]]:
    """Columns of the valid events, in the order of their times."""
    return [
        tuple(row) for row in valid_events(frame).orderBy("event_time").select(*names).collect()
    ]


def reasons(frame: DataFrame) -> list[list[str]]:
    """Why rows were rejected, of those that were."""
    rejected = frame.where("size(_reasons) > 0").select("_reasons").collect()
    return [list(row["_reasons"]) for row in rejected]


def test_rows_of_rees46(spark: SparkSession, tmp_path: Path) -> None:
    frame = of_text(
        spark,
        tmp_path,
        "rees46",
        "event_time,event_type,product_id,category_id,category_code,brand,price,user_id,"
        "user_session\n"
        "2019-10-01 00:00:05 UTC,view,39,20,appliances.environment.heater,aqua,33.20,55,9333d\n"
        "2019-10-01 00:00:07 UTC,purchase,44,21,,,35.79,54,72d76\n"
        "2019-10-01 00:00:09 UTC,view,44,21,,,-1,54,72d76\n",
    )

    names = ("event_time", "user_id", "action", "item_id", "category", "counterparty_id", "amount")
    assert told(frame, *names) == [
        (datetime(2019, 10, 1, 0, 0, 5), "55", "view", "39", "appliances", "aqua", 33.2),
        (datetime(2019, 10, 1, 0, 0, 7), "54", "purchase", "44", None, None, 35.79),
    ]
    assert told(frame, "session_hint") == [("9333d",), ("72d76",)]
    code = "appliances.environment.heater"
    assert told(frame, "attributes") == [
        ({"category_id": "20", "category_code": code},),
        ({"category_id": "21", "category_code": None},),
    ]
    assert reasons(frame) == [["price_not_negative"]]


def test_rows_of_taobao(spark: SparkSession, tmp_path: Path) -> None:
    frame = of_text(
        spark,
        tmp_path,
        "taobao",
        "1,2268318,2520377,pv,1511544070\n"
        "1,2576651,149192,buy,1511572885\n"
        "1,2576651,149192,pv,1311572885\n"
        "1,2576651,149192,look,1511572886\n",
    )

    assert told(frame, "event_time", "user_id", "action", "item_id", "category") == [
        (datetime(2017, 11, 24, 17, 21, 10), "1", "pv", "2268318", "2520377"),
        (datetime(2017, 11, 25, 1, 21, 25), "1", "buy", "2576651", "149192"),
    ]
    assert reasons(frame) == [["time_in_range"], ["action_known"]]


def test_rows_of_the_online_shop(spark: SparkSession, tmp_path: Path) -> None:
    frame = of_text(
        spark,
        tmp_path,
        "online_shop",
        "user_id,event,timestamp\n219483890,catalog,2019-11-01 17:59:13.273932\n",
    )

    assert told(frame, "event_time", "user_id", "action") == [
        (datetime(2019, 11, 1, 17, 59, 13, 273932), "219483890", "catalog")
    ]


def test_payments_of_the_fraud_handbook_and_when_their_labels_are_known(
    spark: SparkSession, tmp_path: Path
) -> None:
    columns = (
        "TRANSACTION_ID int, TX_DATETIME timestamp_ntz, CUSTOMER_ID int, TERMINAL_ID int, "
        "TX_AMOUNT double, TX_FRAUD int, TX_FRAUD_SCENARIO int"
    )
    lines = [
        (number, datetime(2018, 4, 1, number), 596, 3156, 57.16, int(scenario > 0), scenario)
        for number, scenario in enumerate((0, 1, 2, 3))
    ]

    frame = of_parquet(spark, tmp_path, "fraud_handbook", columns, lines)

    names = ("event_id", "event_time", "user_id", "action", "counterparty_id", "amount")
    assert told(frame, *names) == [
        (str(number), datetime(2018, 4, 1, number), "596", "payment", "3156", 57.0)
        for number in range(4)
    ]
    labels = row_labels(frame, published("fraud_handbook")).orderBy("unit_id")
    assert [
        tuple(row) for row in labels.select("unit_id", "label", "kind", "known_at").collect()
    ] == [
        ("0", False, None, datetime(2018, 4, 8, 0)),
        ("1", True, "large_amount", datetime(2018, 4, 8, 1)),
        ("2", True, "compromised_terminal", datetime(2018, 4, 8, 2)),
        ("3", True, "compromised_customer", datetime(2018, 4, 8, 3)),
    ]


def test_payments_of_banksim_that_are_alike_stay_apart_in_the_order_of_the_file(
    spark: SparkSession, tmp_path: Path
) -> None:
    columns = "step long, customer string, merchant string, category string, amount double, "
    columns += "fraud long, age string, gender string"
    lines = [
        (step, "'C1'", "'M1'", "'es_food'", 2.0, fraud, "'4'", "'F'")
        for step, fraud in ((0, 0), (1, 0), (1, 1))
    ]

    frame = of_parquet(spark, tmp_path, "banksim", columns, lines)

    names = ("event_id", "event_time", "user_id", "counterparty_id", "category", "action")
    assert sorted(told(frame, *names)) == [
        (f"00000000{row}", datetime(2013, 1, 1 + day), "C1", "M1", "es_food", "payment")
        for row, day in enumerate((0, 1, 1))
    ]
    labels = row_labels(frame, published("banksim")).where("label")
    assert [tuple(row) for row in labels.select("unit_id", "kind", "known_at").collect()] == [
        ("000000002", "payment_fraud", datetime(2013, 1, 2, 12))
    ]
