"""What the views say, worked out from the Delta tables alone by Polars, delta-rs and DuckDB."""

import re
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
from deltalake import DeltaTable
from pyarrow import compute as pc

_VERDICTS = ("confirmed", "dismissed")
_SEVERITIES = ("critical", "high", "medium", "low")
_UNIT = ["unit_kind", "unit_id"]
_MEMBER = ["model_id", "unit_id"]
_DAY = ["event_date", "model_id", "unit_kind"]
_USER = ["model_id", "user_id"]
_DECISION = ["model_id", "decision"]


def views_by_polars(root: str) -> dict[str, pl.DataFrame]:
    """Each view's columns, perhaps with more, and its rows in any order."""
    flags, cases = (pl.read_delta(f"{root}/{name}") for name in ("anomalies", "cases"))
    members = cases.select("model_id", pl.col("unit_ids").alias("unit_id"), "status")
    of_cases = flags.drop("status").join(members.explode("unit_id"), on=_MEMBER)
    own, by_case = (
        known.filter(pl.col("status").is_in(_VERDICTS))
        .group_by(_UNIT)
        .agg(pl.col("status").min().alias(name))
        for name, known in (("own", flags), ("by_case", of_cases))
    )
    shown = (
        flags.filter(pl.col("suppressed_by").is_null() & (pl.col("decision") != "allow"))
        .join(own, on=_UNIT, how="left")
        .join(by_case, on=_UNIT, how="left")
        .with_columns(verdict=pl.coalesce("own", "by_case"))
    )
    verdict = pl.col("verdict")
    counted = {
        "flags": pl.len(),
        "users": pl.col("user_id").n_unique(),
        **{severity: (pl.col("severity") == severity).sum() for severity in _SEVERITIES},
        **{word: (verdict == word).sum() for word in _VERDICTS},
    }
    days = pl.read_delta(f"{root}/flag_days").join(
        shown.group_by(_DAY).agg(**counted), on=_DAY, how="full", coalesce=True
    )
    strangest = shown.sort("p_value", "score", "unit_id", descending=[False, True, False])
    return {
        "shown_flags": shown,
        "daily_counts": days.with_columns(pl.col(*counted).fill_null(0)),
        "users_at_risk": strangest.filter(verdict.is_null() | (verdict == "confirmed"))
        .group_by(_USER, maintain_order=True)
        .agg(
            pl.col("p_value", "severity", "decision", "summary").first(),
            flags=pl.len(),
            confirmed=verdict.count(),
            first_at=pl.col("event_time").min(),
            last_at=pl.col("event_time").max(),
        ),
        "precision_by_decision": shown.group_by(_DECISION).agg(
            flags=pl.len(),
            reviewed=verdict.count(),
            confirmed=(verdict == "confirmed").sum(),
            precision=(verdict == "confirmed").mean(),
        ),
    }


def views_by_delta_rs(root: str) -> dict[str, pl.DataFrame]:
    """The same by delta-rs, worked out by pyarrow's compute."""
    flags, cases, days = (
        pa.table(DeltaTable(f"{root}/{name}").to_pyarrow_table()).combine_chunks()
        for name in ("anomalies", "cases", "flag_days")
    )
    shown = _shown_in_arrow(flags.drop_columns(["reasons"]), cases)
    severities = {name: pc.equal(shown["severity"], name) for name in _SEVERITIES}
    is_dismissed = pc.invert(shown["is_confirmed"])
    shown = _with(shown, is_dismissed=is_dismissed, place=_numbers(len(shown)), **severities)
    verdicts = {"confirmed": ("is_confirmed", "sum"), "dismissed": ("is_dismissed", "sum")}
    flags_of = {"flags": ("unit_id", "count")}
    judged = {"reviewed": ("is_confirmed", "count"), "precision": ("is_confirmed", "mean")}
    counted = flags_of | verdicts | {"users": ("user_id", "count_distinct")}
    counted |= {name: (name, "sum") for name in _SEVERITIES}
    found = days.join(_grouped(shown, _DAY, counted), _DAY, join_type="full outer")
    at_risk = shown.filter(pc.invert(pc.fill_null(is_dismissed, False)))
    times = {"first_at": ("event_time", "min"), "last_at": ("event_time", "max")}
    # The rows are in the order of how strange they are.
    users = _grouped(at_risk, _USER, flags_of | verdicts | times | {"place": ("place", "min")})
    first = shown.take(users["place"]).select(["p_value", "severity", "decision", "summary"])
    views = {
        "shown_flags": shown,
        "daily_counts": _with(found, **{name: pc.fill_null(found[name], 0) for name in counted}),
        "users_at_risk": _with(users, **dict(zip(first.column_names, first.columns, strict=True))),
        "precision_by_decision": _grouped(shown, _DECISION, flags_of | verdicts | judged),
    }
    return {name: pl.DataFrame(view) for name, view in views.items()}


def cases_by_polars(root: str) -> list[tuple[str, int, int]]:
    """Each status of cases with the number of cases and of their flags."""
    of_status = pl.read_delta(f"{root}/cases").group_by("status")
    return sorted(of_status.agg(pl.len(), pl.col("unit_ids").list.len().sum()).rows())


def cases_by_delta_rs(root: str) -> list[tuple[str, int, int]]:
    """The same by delta-rs and pyarrow."""
    cases = pa.table(DeltaTable(f"{root}/cases").to_pyarrow_table())
    counted = {"cases": ("status", "count"), "flags": ("size", "sum")}
    found = _grouped(
        _with(cases, size=pc.list_value_length(cases["unit_ids"])), ["status"], counted
    )
    return sorted(zip(*(column.to_pylist() for column in found.columns), strict=True))


def read_delta_in(connection: duckdb.DuckDBPyConnection, script: str) -> None:
    """Let a script call `delta_scan`: DuckDB's own, or one that reads by delta-rs.

    DuckDB fetches its extension from its makers, who cannot be reached from everywhere.
    """
    try:
        connection.execute("LOAD delta")
    except duckdb.IOException:
        for path in set(re.findall(r"delta_scan\('(.*?)'\)", script)):
            connection.register(Path(path).name, DeltaTable(path).to_pyarrow_table())
        by_name = "AS TABLE FROM query_table(parse_filename(path))"
        connection.execute(f"CREATE MACRO delta_scan(path) {by_name}")


def _shown_in_arrow(flags: pa.Table, cases: pa.Table) -> pa.Table:
    """The flags that are shown, with what they turned out to be, the strangest first."""
    members = cases.select(["model_id", "status"]).take(pc.list_parent_indices(cases["unit_ids"]))
    members = _with(members, unit_id=pc.list_flatten(cases["unit_ids"]))
    of_cases = flags.drop_columns(["status"]).join(
        members, ["model_id", "unit_id"], join_type="inner"
    )
    is_shown = pc.and_(pc.is_null(flags["suppressed_by"]), pc.not_equal(flags["decision"], "allow"))
    shown = flags.filter(is_shown)
    for name, known in (("own", flags), ("by_case", of_cases)):
        judged = known.filter(pc.is_in(known["status"], pa.array(_VERDICTS)))
        judged = _with(judged, is_one=pc.equal(judged["status"], "confirmed"))
        shown = shown.join(_grouped(judged, _UNIT, {name: ("is_one", "any")}), _UNIT)
    is_confirmed = pc.coalesce(shown["own"], shown["by_case"])
    verdict = pc.if_else(is_confirmed, *_VERDICTS)
    order = [("p_value", "ascending"), ("score", "descending"), ("unit_id", "ascending")]
    return _with(shown, is_confirmed=is_confirmed, verdict=verdict).sort_by(order)


def _grouped(table: pa.Table, key: list[str], asked: dict[str, tuple[str, str]]) -> pa.Table:
    """The key's columns and, by name, what is asked: an aggregate of a column."""
    found = table.group_by(key).aggregate(list(asked.values()))
    columns = {name: found[f"{column}_{how}"] for name, (column, how) in asked.items()}
    nothing = {name: pc.fill_null(columns[name], 0) for name in asked if asked[name][1] == "sum"}
    return _with(found.select(key), **columns | nothing)


def _with(table: pa.Table, **columns: Any) -> pa.Table:
    """The table with these columns, or with these instead of its own."""
    return pa.table(dict(zip(table.column_names, table.columns, strict=True)) | columns)


def _numbers(count: int) -> pa.Array:
    return pa.array(range(count), pa.int64())
