"""A model's files are those that training wrote, or the model is refused by the file's name."""

import io
import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import sha256
from pathlib import Path
from threading import Barrier
from typing import cast
from uuid import UUID

import numpy as np
import pytest
from builders import vocabulary
from small_model import model_of

from habitus.domain.detectors.markov import MarkovDetector
from habitus.edges.artefacts import ArtefactStore, outside_hadoop
from habitus.edges.models import Model, load_model
from habitus.errors import ArtefactError, SettingsError

pytestmark = pytest.mark.plain

MODEL = "markov-123456789abc"


@cache
def written() -> Mapping[str, bytes]:
    return model_of(vocabulary())


@pytest.fixture
def store(tmp_path: Path) -> ArtefactStore:
    return ArtefactStore(str(tmp_path))


class Marker:
    """Whoever unpickles this makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


def with_code(path: Path) -> bytes:
    """An npz file that holds an object with code."""
    content = io.BytesIO()
    np.savez(content, counts=np.array([Marker(path)], dtype=object))
    return content.getvalue()


@pytest.mark.parametrize("place", ["a local disk", "another file system"])
def test_a_file_that_is_not_written_to_its_end_leaves_the_one_before(
    store: ArtefactStore, place: str
) -> None:
    files = store if place == "a local disk" else ArtefactStore("mock:///lake")
    files.write_file("models/card.md", b"# A model")

    with pytest.raises(TypeError):
        files.write_file("models/card.md", cast(bytes, 7))

    assert files.read_file("models/card.md") == b"# A model"


def test_a_model_is_read_whatever_a_killed_writer_left_beside_it(store: ArtefactStore) -> None:
    store.write(MODEL, written())
    store.write_file(f"models/{MODEL}/counts.npz.part", b"a writer that was killed")

    assert store.read(MODEL) == written()
    assert load_model(store.root, MODEL).detector.name == "markov"


def test_threads_that_ask_for_a_model_at_once_get_the_same_one(store: ArtefactStore) -> None:
    store.write(MODEL, written())
    together = Barrier(4)

    def ask(_: int) -> Model:
        together.wait()
        return load_model(store.root, MODEL)

    with ThreadPoolExecutor(4) as threads:
        first, *others = threads.map(ask, range(4))

    assert all(other is first for other in others)


def test_a_file_in_the_folder_of_an_ensembles_member_is_one_of_the_model(
    store: ArtefactStore,
) -> None:
    store.write("ensemble-1", {"markov/counts.npz": b"1", "ensemble.json": b"{}"})

    assert store.read("ensemble-1") == {"markov/counts.npz": b"1", "ensemble.json": b"{}"}


def test_code_in_arrays_is_refused_without_being_run(store: ArtefactStore, tmp_path: Path) -> None:
    marker = tmp_path / "the code has run"
    store.write(MODEL, {**written(), "counts.npz": with_code(marker)})

    with pytest.raises(ArtefactError, match=f"{MODEL}/counts.npz"):
        load_model(store.root, MODEL)

    assert not marker.exists()


def test_arrays_that_are_a_pickle_as_a_whole_are_refused_without_being_run(
    store: ArtefactStore, tmp_path: Path
) -> None:
    marker = tmp_path / "the code has run"
    content = io.BytesIO()
    np.save(content, np.array([Marker(marker)], dtype=object))

    for damaged in (content.getvalue(), content.getvalue()[80:]):
        with pytest.raises(ArtefactError, match=r"counts.npz"):
            MarkovDetector.from_files({**written(), "counts.npz": damaged}, vocabulary())

    assert not marker.exists()


@pytest.mark.parametrize("name", ["model.pkl", "counts.py", "markov/more.json", ".hidden"])
def test_a_file_that_the_manifest_does_not_list_is_refused(store: ArtefactStore, name: str) -> None:
    store.write(MODEL, written())
    store.write_file(f"models/{MODEL}/{name}", b"import os")

    with pytest.raises(ArtefactError, match=f"{MODEL}/{name}: training did not write this file"):
        store.read(MODEL)


@pytest.mark.parametrize(
    "name",
    [
        "model.pkl",
        "model.py",
        "../other.json",
        "markov/../../other.json",
        "/etc/other.json",
        "markov//counts.npz",
        "counts.npz\n",
    ],
)
def test_a_manifest_that_lists_what_training_does_not_write_is_refused(
    store: ArtefactStore, tmp_path: Path, name: str
) -> None:
    store.write(MODEL, written())
    path = tmp_path / "models" / MODEL / "manifest.json"
    listed = json.loads(path.read_text()) | {name: sha256(b"{}").hexdigest()}
    path.write_text(json.dumps(listed))
    store.write_file("models/other.json", b"{}")

    with pytest.raises(ArtefactError, match=r"manifest.json: it lists") as caught:
        store.read(MODEL)

    assert repr(name) in str(caught.value)


@pytest.mark.parametrize("content", ["no JSON", "[]", '{"counts.npz": 7}'])
def test_a_manifest_that_is_no_list_of_checksums_is_refused(
    store: ArtefactStore, tmp_path: Path, content: str
) -> None:
    store.write(MODEL, written())
    (tmp_path / "models" / MODEL / "manifest.json").write_text(content)

    with pytest.raises(ArtefactError, match=r"manifest.json: not readable"):
        store.read(MODEL)


def test_a_model_outside_its_folder_is_not_there(store: ArtefactStore, tmp_path: Path) -> None:
    store.write(MODEL, written())
    (tmp_path / "models" / MODEL).rename(tmp_path / MODEL)

    with pytest.raises(ArtefactError, match="no such model"):
        store.read(f"../{MODEL}")


def test_what_a_file_of_a_model_lacks_is_told_with_the_models_name(store: ArtefactStore) -> None:
    files = dict(written())
    del files["counts.npz"]
    store.write(MODEL, files)

    with pytest.raises(ArtefactError, match=f"models/{MODEL}/counts.npz: no such file"):
        load_model(store.root, MODEL)


def test_models_are_those_that_were_written_to_their_end(store: ArtefactStore) -> None:
    assert store.model_ids() == []
    store.write(MODEL, written())
    store.write_file("models/markov-2/counts.npz", b"")
    now = datetime(2026, 1, 1, tzinfo=UTC)
    store.promote("markov", MODEL, job="train", run_id="1", at=now)

    assert store.model_ids() == [MODEL]


def test_a_vocabulary_comes_back_by_its_id(store: ArtefactStore) -> None:
    words = vocabulary()
    store.write_vocabulary(words)

    assert store.read_vocabulary(words.vocabulary_id) == words


@pytest.mark.parametrize("damage", ["cut off", "of other things", "no text"])
def test_a_damaged_vocabulary_is_refused_by_the_name_of_its_file(
    store: ArtefactStore, tmp_path: Path, damage: str
) -> None:
    words = vocabulary()
    store.write_vocabulary(words)
    path = tmp_path / "vocabularies" / f"{words.vocabulary_id}.json"
    contents = {"cut off": path.read_bytes()[:-9], "of other things": b"{}", "no text": b"\xff"}
    path.write_bytes(contents[damage])

    with pytest.raises(ArtefactError, match=r"Restore the file, or run `habitus features` again"):
        store.read_vocabulary(words.vocabulary_id)
    with pytest.raises(ArtefactError, match=rf"vocabularies/{words.vocabulary_id}\.json: "):
        store.read_vocabulary(words.vocabulary_id)


PAGES = {"net.onnx": b"weights", "card.md": b"# A model"}


def test_a_revised_page_is_read_as_it_is_now_and_the_others_are_still_checked(
    store: ArtefactStore,
) -> None:
    store.write("trial-1", PAGES)
    for content in (b"# A model, compared", b"# A model, compared again"):
        store.revise("trial-1", "card.md", content)
        assert store.read("trial-1") == PAGES | {"card.md": content}

    store.revise("trial-1", "net.onnx", b"others")
    with pytest.raises(ArtefactError, match=r"net\.onnx: its content is not what training wrote"):
        store.read("trial-1")


def test_a_revision_that_breaks_off_leaves_the_model_readable(
    store: ArtefactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write("trial-1", PAGES)
    nil = UUID(int=0)
    monkeypatch.setattr("habitus.edges.artefacts.uuid.uuid4", lambda: nil)
    (tmp_path / "models" / "trial-1" / f"card.md.{nil.hex}.part").mkdir()

    with pytest.raises(OSError, match=r"card\.md"):
        store.revise("trial-1", "card.md", b"# A model, compared")

    assert store.read("trial-1") == PAGES


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


def test_a_place_that_models_cannot_be_kept_in_is_refused_and_s3_goes_by_hadoops_names() -> None:
    with pytest.raises(SettingsError, match=r"lake.root: abfss:.* Give a folder, or a URI of"):
        ArtefactStore("abfss://lake@account.dfs.core.windows.net/x")
    assert [outside_hadoop(f"{scheme}://b/lake") for scheme in ("s3a", "s3n", "s3", "gs")] == [
        *["s3://b/lake"] * 3,
        "gs://b/lake",
    ]
