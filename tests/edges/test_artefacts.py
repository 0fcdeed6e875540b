"""A model's files are as training wrote them, but for those that are revised for people."""

from pathlib import Path

import pytest

from habitus.edges.artefacts import ArtefactStore
from habitus.errors import ArtefactError

pytestmark = pytest.mark.plain

FILES = {"net.onnx": b"weights", "card.md": b"# A model"}


def store_in(folder: Path) -> ArtefactStore:
    store = ArtefactStore(str(folder))
    store.write("trial-1", FILES)
    return store


def test_a_revised_file_is_read_as_it_is_now_and_the_others_are_still_checked(
    tmp_path: Path,
) -> None:
    store = store_in(tmp_path)
    for content in (b"# A model, compared", b"# A model, compared again"):
        store.revise("trial-1", "card.md", content)
        assert store.read("trial-1") == FILES | {"card.md": content}

    store.write_file("models/trial-1/net.onnx", b"others")
    with pytest.raises(ArtefactError, match=r"net\.onnx: its content is not what training wrote"):
        store.read("trial-1")


def test_a_revision_that_breaks_off_leaves_the_model_readable(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    (tmp_path / "models" / "trial-1" / "card.md.part").mkdir()

    with pytest.raises(OSError, match=r"card\.md"):
        store.revise("trial-1", "card.md", b"# A model, compared")

    assert store.read("trial-1") == FILES
