import csv
import io

import numpy as np
import pandas as pd
import pytest
from domain.simulation.samples import START, shop

from habitus.domain.simulation.mess import FileText, event_text, header, label_text
from habitus.domain.simulation.shop import EVENT_COLUMNS, generator_of, simulate_block

pytestmark = pytest.mark.plain

START_MS = int(START.timestamp() * 1000)
EVENTS, LABELS = simulate_block(shop(users=500), 7, 0)


def _rows(text: FileText) -> list[tuple[int, list[str]]]:
    return [
        (day, row)
        for day, lines in zip(text.days.tolist(), text.texts.to_pylist(), strict=True)
        for row in csv.reader(io.StringIO(lines))
    ]


def _written(mess: float) -> list[tuple[int, list[str]]]:
    return _rows(event_text(generator_of(7, 0), EVENTS, mess, START_MS))


def test_without_mess_every_event_is_one_line_that_reads_back() -> None:
    rows = [row for _, row in _written(0.0)]
    read = pd.DataFrame(rows, columns=EVENT_COLUMNS).set_index("event_id")
    events = EVENTS.to_pandas().set_index("event_id")
    assert len(read) == len(events)
    read = read.loc[events.index]
    assert (pd.to_datetime(read.ts) == events.ts).all()
    assert np.allclose(pd.to_numeric(read.amount), events.amount, equal_nan=True)
    for column in EVENT_COLUMNS[2:]:
        if column != "amount":
            assert (read[column] == events[column].fillna("")).all(), column


def test_some_text_needs_quotes_and_gets_them() -> None:
    assert any("," in row[EVENT_COLUMNS.index("path")] for _, row in _written(0.0))


def test_rows_arrive_nearly_in_order_without_mess() -> None:
    times = pd.to_datetime([row[1] for _, row in _written(0.0)])
    behind = pd.Series(times).cummax() - times
    assert behind.max() < pd.Timedelta("1min")


def test_the_set_share_of_rows_goes_wrong_in_every_way() -> None:
    share = 0.2
    rows = _written(share)
    count = EVENTS.num_rows
    happened = EVENTS.to_pandas().set_index("event_id").ts

    again = len(rows) - len({row[0] for _, row in rows})
    assert again == len(rows) - count
    malformed = [row for _, row in rows if len(row) != len(EVENT_COLUMNS)]
    whole = pd.DataFrame([[d, *r] for d, r in rows if len(r) == len(EVENT_COLUMNS)])
    whole.columns = ["day", *EVENT_COLUMNS]
    time = pd.to_datetime(whole.ts, format="%Y-%m-%d %H:%M:%S.%f", errors="coerce")
    missing = (whole[["ts", "customer", "action"]] == "").any(axis=1)
    bad_time = time.isna() & ~missing
    bad_amount = pd.to_numeric(whole.amount, errors="coerce").isna() & (whole.amount != "")
    skew = time - happened[whole.event_id].to_numpy()
    skewed = skew.notna() & (skew != pd.Timedelta(0))
    arrived = START_MS + whole.day * 86_400_000
    late = arrived > happened[whole.event_id].astype("int64").to_numpy() + 600_000
    found = {
        "duplicated": again,
        "late": int(late.sum()) / 0.8,  # those late by hours often stay within the day
        "missing": int(missing.sum()),
        "malformed": len(malformed) + int(bad_time.sum()) + int(bad_amount.sum()),
        "skewed": int(skewed.sum()),
    }
    for name, rows_found in found.items():
        assert 0.6 < rows_found / (count * share / 5) < 1.4, (name, rows_found)
    assert skew[skewed].abs().max() < pd.Timedelta("3min")
    assert all(len(row) < len(EVENT_COLUMNS) or len(row) == 18 for row in malformed)
    assert {len(row) for row in malformed} == {7, 18}


def test_duplicates_are_exact_copies() -> None:
    lines = pd.Series([",".join(row) for _, row in _written(0.2)])
    copies = lines[lines.duplicated(keep=False)]
    assert len(copies) > 0
    ids = lines.str.split(",").str[0]
    assert set(ids[ids.duplicated()]) == set(copies.str.split(",").str[0])


def test_mess_spoils_rows_and_not_labels() -> None:
    named = {row[1] for _, row in _rows(label_text(LABELS, START_MS))}
    assert named == set(LABELS.column("unit_id").to_pylist())


def test_a_label_is_in_the_file_of_the_day_on_which_it_becomes_known() -> None:
    for day, row in _rows(label_text(LABELS, START_MS)):
        known = pd.Timestamp(row[4], tz="UTC")
        assert (known - pd.Timestamp(START)).days == day


def test_a_header_names_the_columns() -> None:
    assert header(EVENT_COLUMNS).split(",")[:3] == ["event_id", "ts", "customer"]
