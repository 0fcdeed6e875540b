import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from domain.simulation.samples import START, session_kinds, shop, simulated
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from habitus.domain.simulation.campaigns import KIND_NAMES
from habitus.domain.simulation.files import file_rows
from habitus.domain.simulation.mess import header
from habitus.domain.simulation.shop import BLOCK, LABEL_COLUMNS, blocks, simulate_block

pytestmark = pytest.mark.plain


def test_the_same_seed_gives_the_same_events_and_another_seed_others() -> None:
    once = simulate_block(shop(), 7, 1)
    again = simulate_block(shop(), 7, 1)
    other = simulate_block(shop(), 8, 1)
    assert once[0].equals(again[0])
    assert once[1].equals(again[1])
    assert not once[0].equals(other[0])


def test_a_block_does_not_depend_on_how_many_there_are() -> None:
    few, many = shop(users=2 * BLOCK), shop(users=20 * BLOCK)
    assert blocks(many) == 20
    assert simulate_block(few, 7, 1)[0].equals(simulate_block(many, 7, 1)[0])


def test_blocks_share_no_customers_sessions_or_event_ids() -> None:
    one, other = (simulate_block(shop(), 7, block)[0].to_pandas() for block in (0, 1))
    for column in ("event_id", "session", "customer"):
        assert not set(one[column]) & set(other[column])
    # The shop and its mobile carriers are the same.
    for column in ("item", "seller", "network"):
        assert set(one[column].dropna()) & set(other[column].dropna())


def test_every_event_has_its_own_id_and_belongs_to_one_visit_of_one_customer() -> None:
    events, _ = simulated()
    assert events.event_id.is_unique
    of_session = events.groupby("session")
    for column in ("customer", "device", "network", "channel", "country"):
        assert (of_session[column].nunique() == 1).all()


def test_pauses_between_visits_are_long_and_within_them_short() -> None:
    events, _ = simulated()
    events = events.sort_values(["customer", "ts"], kind="stable")
    pause = events.groupby("customer").ts.diff()
    same = events.session == events.session.shift()
    assert pause[same].max() < pd.Timedelta("30min")
    assert pause[same].min() >= pd.Timedelta(0)
    assert pause[~same].dropna().min() > pd.Timedelta("30min")


def test_visits_begin_within_the_period() -> None:
    events, _ = simulated()
    begin = events.groupby("session").ts.min()
    first = pd.Timestamp(START).tz_localize(None)
    assert begin.min() >= first
    assert begin.max() < first + pd.Timedelta(days=28)


def test_there_are_about_twenty_actions_and_visits_read_like_a_shop() -> None:
    events, _ = simulated()
    assert 20 <= events.action.nunique() <= 24
    length = events.groupby("session").size()
    assert 6 < length.mean() < 12
    failed = events.outcome == "failure"
    assert 0.05 < failed[events.action == "payment"].mean() < 0.25
    assert 0.05 < failed[events.action == "login"].mean() < 0.3
    paid = events[(events.action == "payment")]
    assert (paid.amount > 0).all()
    assert paid.seller.notna().all()
    assert events[events.action == "login"].item.isna().all()
    assert events[events.action == "request"].path.notna().all()


def test_items_and_customers_are_skewed() -> None:
    events, _ = simulated()
    views = events[events.action == "view"].item.value_counts()
    assert views.head(300).sum() > 0.45 * views.sum()
    days = events.groupby(["customer", events.ts.dt.date]).size()
    assert days.median() <= 12
    assert days.max() > 10 * days.median()
    visits = events.groupby("customer").session.nunique()
    assert visits.quantile(0.99) > 6 * visits.median()


def test_customers_use_several_devices_and_share_some_networks() -> None:
    events, _ = simulated(attack_share=0.0)
    visits = events.groupby("session").first()
    devices = visits.groupby("customer").device.nunique()
    assert 0.2 < (devices > 1).mean() < 0.9
    assert devices.max() <= 4
    users = visits.groupby("network").customer.nunique()
    assert (users > 1).sum() > 100
    assert (visits.groupby("device").customer.nunique() > 1).any()


def test_a_promotion_multiplies_the_traffic_of_its_peak_hours() -> None:
    events, _ = simulated(attack_share=0.0)
    begin = events.groupby("session").ts.min()
    evening = begin.dt.hour.between(18, 19)
    day = (begin - pd.Timestamp(START).tz_localize(None)).dt.days
    usual = (evening & (day % 7 == 3) & (day != 24) & (day > 6)).sum() / 2
    assert 7 < (evening & (day == 24)).sum() / usual < 14


def test_nights_and_weekends_differ_from_working_days() -> None:
    events, _ = simulated(users=1000, promotion_days=())
    begin = events.groupby("session").ts.min()
    hours = begin.dt.hour.value_counts()
    assert hours[20] > 4 * hours[4]
    days = begin.dt.dayofweek.value_counts()
    assert days[5] > days[1]


def test_attacks_make_their_share_of_sessions_and_each_kind_a_tenth_of_them() -> None:
    events, labels = simulated()
    kinds = session_kinds(labels)
    assert 0.016 < len(kinds) / events.session.nunique() < 0.024
    assert set(kinds) == set(KIND_NAMES)
    assert kinds.value_counts(normalize=True).between(0.08, 0.12).all()


def test_every_kind_attacks_throughout_also_in_the_test_period() -> None:
    events, labels = simulated()
    kinds = session_kinds(labels)
    begin = events.groupby("session").ts.min()[kinds.index]
    test_period = begin >= pd.Timestamp(START).tz_localize(None) + pd.Timedelta(days=0.7 * 28)
    late = test_period.groupby(kinds).mean()
    assert late.between(0.12, 0.5).all(), late
    assert 0.2 < test_period.mean() < 0.4


def test_labels_name_events_and_the_sessions_that_hold_them() -> None:
    events, labels = simulated()
    assert set(labels.label) == {"true"}
    of_event = labels[labels.unit_kind == "event"].merge(
        events, left_on="unit_id", right_on="event_id"
    )
    assert len(of_event) == (labels.unit_kind == "event").sum()
    kinds = session_kinds(labels)
    assert set(of_event.session) == set(kinds.index)
    assert (of_event.kind == kinds[of_event.session].to_numpy()).all()
    assert (of_event.known_at > of_event.ts).all()
    # Attackers imitate: not all that happens in their sessions is an attack.
    inside = events[events.session.isin(kinds.index)]
    assert len(inside) > 1.2 * len(of_event)


def test_nobody_attacks_when_none_are_wanted() -> None:
    _, labels = simulated(attack_share=0.0)
    assert labels.empty


def test_accounts_are_taken_over_from_honest_customers_by_a_stranger() -> None:
    events, labels = simulated()
    kinds = session_kinds(labels)
    visits = events.groupby("session").first()
    taken = visits[visits.index.map(kinds.get) == "account_takeover"]
    others = visits.drop(kinds.index)
    for column in ("device", "network"):
        seen = set(zip(others.customer, others[column], strict=True))
        strange = [(c, v) not in seen for c, v in zip(taken.customer, taken[column], strict=True)]
        assert all(strange)
    assert taken.customer.isin(others.customer).mean() > 0.7


def test_fake_orders_come_from_a_ring_and_favour_one_seller() -> None:
    events, labels = simulated()
    kinds = session_kinds(labels)
    parts = set(labels[(labels.unit_kind == "event") & (labels.kind == "fake_orders")].unit_id)
    paid = events[events.event_id.isin(parts) & (events.action == "payment")]
    assert (paid.groupby("customer").seller.nunique() == 1).all()
    buyers = paid.groupby("seller").customer.nunique()
    assert buyers.max() >= 3
    assert (kinds[paid.session] == "fake_orders").all()


def test_stuffing_tries_many_accounts_from_few_networks() -> None:
    events, labels = simulated()
    kinds = session_kinds(labels)
    tried = events[events.session.isin(kinds[kinds == "credential_stuffing"].index)]
    assert tried.groupby("network").customer.nunique().mean() > 1.2
    assert (tried[tried.action == "login"].outcome == "failure").mean() > 0.6


@pytest.mark.parametrize(
    "change", [{"promotion_days": (28,)}, {"promotion_days": (3, -1)}, {"users": 0}]
)
def test_settings_that_make_no_shop_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        shop(**change)


@settings(max_examples=12)
@given(
    users=st.integers(10, 60),
    days=st.integers(2, 12),
    share=st.floats(0, 0.5),
    stealth=st.floats(0, 1),
    promotions=st.sets(st.integers(0, 1)).map(tuple),
    seed=st.integers(0, 2**32),
)
def test_any_small_shop_can_be_simulated(
    users: int, days: int, share: float, stealth: float, promotions: tuple[int, ...], seed: int
) -> None:
    settings_ = shop(
        users=users,
        days=days,
        items=10,
        sellers=2,
        attack_share=share,
        stealth=stealth,
        promotion_days=promotions,
    )
    events, labels = (table.to_pandas() for table in simulate_block(settings_, seed, 0))
    assert events.event_id.is_unique
    assert events[["ts", "customer", "action", "session"]].notna().all().all()
    assert not labels.duplicated(["unit_kind", "unit_id"]).any()
    named = labels[labels.unit_kind == "event"].unit_id
    assert np.isin(named, events.event_id).all()


def test_without_attacks_there_is_a_file_of_labels_with_nothing_but_its_header() -> None:
    rows = pa.Table.from_batches(file_rows(shop(users=20, attack_share=0.0), 7, [0])).to_pandas()
    labels = rows[rows.folder == "labels"]
    assert labels.value.tolist() == [header(LABEL_COLUMNS)]
