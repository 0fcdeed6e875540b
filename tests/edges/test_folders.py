from pathlib import Path
from types import SimpleNamespace

import pytest
from pyspark.sql import SparkSession

from habitus.edges.folders import Folder

pytestmark = pytest.mark.spark


def _folder(path: Path, content: str) -> None:
    path.mkdir()
    (path / "file.txt").write_text(content)


def test_a_folder_takes_another_ones_place_and_nothing_else_is_left(
    spark: SparkSession, tmp_path: Path
) -> None:
    _folder(tmp_path / "old", "old")
    _folder(tmp_path / "new", "new")
    Folder(spark, str(tmp_path / "old")).replace_by(Folder(spark, f"{tmp_path}/new/"))
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert (tmp_path / "old" / "file.txt").read_text() == "new"


def test_what_a_killed_replacement_left_aside_is_not_in_the_way(
    spark: SparkSession, tmp_path: Path
) -> None:
    _folder(tmp_path / "old.replaced", "older")
    _folder(tmp_path / "new", "new")
    Folder(spark, str(tmp_path / "old")).replace_by(Folder(spark, str(tmp_path / "new")))
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_a_folder_knows_whether_it_is_there_and_what_is_in_it(
    spark: SparkSession, tmp_path: Path
) -> None:
    folder = Folder(spark, str(tmp_path / "some"))
    assert not folder.exists()
    assert folder.empty()
    _folder(tmp_path / "some", "text")
    assert folder.exists()
    assert not folder.empty()
    assert folder.holds("file.txt")
    assert not folder.holds("other.txt")
    folder.delete()
    assert not (tmp_path / "some").exists()


def test_moving_a_folder_that_is_not_there_says_so(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="missing"):
        Folder(spark, str(tmp_path / "missing")).rename(str(tmp_path / "other"))


def test_leftovers_go_and_anything_else_stays_with_all_that_is_beside_it(
    spark: SparkSession, tmp_path: Path
) -> None:
    for name in ("left", "used"):
        (tmp_path / name / "_staged_commits").mkdir(parents=True)
        (tmp_path / name / ".0.json.tmp").touch()
    (tmp_path / "used" / "0.json").touch()

    for name in ("left", "used", "none"):
        Folder(spark, str(tmp_path / name)).delete_leftovers()

    assert [path.name for path in tmp_path.iterdir()] == ["used"]
    assert len(list((tmp_path / "used").iterdir())) == 3


def test_what_a_living_writer_hides_is_no_leftover(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    log.mkdir()
    hidden = log / ".0.json.tmp"
    hidden.touch()
    finish = SimpleNamespace(sleep=lambda _: hidden.rename(log / "0.json"))
    monkeypatch.setattr("habitus.edges.folders.time", finish)

    Folder(spark, str(log)).delete_leftovers()

    assert [path.name for path in log.iterdir()] == ["0.json"]
