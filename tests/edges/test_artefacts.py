"""What lies beside the tables is read as it was written, or refused by the file's name."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import builders
import pytest

from habitus.edges.artefacts import ArtefactStore
from habitus.errors import ArtefactError

pytestmark = pytest.mark.plain

WORDS = builders.vocabulary()


def test_a_vocabulary_comes_back_by_its_id(tmp_path: Path) -> None:
    store = ArtefactStore(str(tmp_path))
    store.write_vocabulary(WORDS)

    assert store.read_vocabulary(WORDS.vocabulary_id) == WORDS


@pytest.mark.parametrize("damage", ["cut off", "of other things", "no text"])
def test_a_damaged_vocabulary_is_refused_by_the_name_of_its_file(
    tmp_path: Path, damage: str
) -> None:
    store = ArtefactStore(str(tmp_path))
    store.write_vocabulary(WORDS)
    path = tmp_path / "vocabularies" / f"{WORDS.vocabulary_id}.json"
    contents = {"cut off": path.read_bytes()[:-9], "of other things": b"{}", "no text": b"\xff"}
    path.write_bytes(contents[damage])

    with pytest.raises(ArtefactError, match=r"Restore the file, or run `habitus features` again"):
        store.read_vocabulary(WORDS.vocabulary_id)
    with pytest.raises(ArtefactError, match=rf"vocabularies/{WORDS.vocabulary_id}\.json: "):
        store.read_vocabulary(WORDS.vocabulary_id)


def test_folders_go_in_which_nothing_is_new_and_others_stay(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    for name, days in (
        ("tune-a/1", 3),
        ("tune-a/2", 2),
        ("tune-b/1", 3),
        ("tune-b/2", 0),
        ("c", 3),
    ):
        path = tmp_path / "checkpoints" / name / "state.npz"
        path.parent.mkdir(parents=True)
        path.touch()
        written = (now - timedelta(days=days)).timestamp()
        os.utime(path, (written, written))
    store = ArtefactStore(str(tmp_path))

    store.delete_abandoned("checkpoints", "tune-", now - timedelta(days=1))
    store.delete_abandoned("no such folder", "tune-", now)

    left = [path.name for path in (tmp_path / "checkpoints").iterdir()]
    assert sorted(left) == ["c", "tune-b"]
