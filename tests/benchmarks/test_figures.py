"""What a benchmark of several parts keeps of each run."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarks._figures import Figure, at_least, publish_parts

pytestmark = pytest.mark.plain


def test_a_part_that_is_run_again_keeps_the_figures_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    values = {"bank": 1.0, "shop": 2.0}

    def part(name: str) -> list[Figure]:
        return [at_least("auc", values[name], 1.5), Figure("units", 7)]

    parts = {name: lambda small, name=name: part(name)[: 1 if small else 2] for name in values}

    def written(*words: str) -> dict[str, float]:
        publish_parts("some", parts, ["some.py", *words])
        rows = json.loads(Path(".bench/some.json").read_text())
        return {row["figure"]: row["value"] for row in rows}

    both = {"bank: auc": 1.0, "bank: units": 7, "shop: auc": 2.0, "shop: units": 7}
    assert written() == both
    values["shop"] = 2.5
    assert written("shop", "--small") == {
        "bank: auc": 1.0,
        "bank: units": 7,
        "shop: auc": 2.5,
    }


def test_a_run_that_is_interrupted_keeps_what_it_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def interrupted(_: bool) -> Iterator[Figure]:
        yield Figure("auc", 2.0)
        raise KeyboardInterrupt

    parts = {"bank": lambda _: [Figure("auc", 1.0)], "shop": interrupted}
    with pytest.raises(KeyboardInterrupt):
        publish_parts("some", parts, ["some.py"])

    rows = json.loads(Path(".bench/some.json").read_text())
    assert [row["figure"] for row in rows] == ["bank: auc", "shop: auc"]


def test_a_misspelt_part_runs_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=r"no part 'bnak'\. There are bank\."):
        publish_parts("some", {"bank": lambda _: []}, ["some.py", "bnak"])
    assert not Path(".bench").exists()
