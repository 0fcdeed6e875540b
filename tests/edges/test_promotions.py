"""Which model of each detector scores, and what did before."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from habitus.edges.artefacts import ArtefactStore

pytestmark = pytest.mark.plain


@pytest.fixture
def store(tmp_path: Path) -> ArtefactStore:
    return ArtefactStore(str(tmp_path))


def promote(store: ArtefactStore, model_id: str, run_id: str) -> str | None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return store.promote("markov", model_id, job="train", run_id=run_id, at=now)


def told(store: ArtefactStore) -> list[tuple[str, str | None, str]]:
    return [(one.model_id, one.instead_of, one.run_id) for one in store.promotions("markov")]


def test_a_promoted_model_is_the_current_one_and_what_was_before_is_kept(
    store: ArtefactStore,
) -> None:
    assert store.current() == {}
    assert store.promotions("markov") == ()

    before = [promote(store, model, run) for model, run in (("a", "1"), ("b", "2"), ("a", "3"))]

    assert before == [None, "a", "b"]
    assert store.current() == {"markov": "a"}
    assert told(store) == [("a", None, "1"), ("b", "a", "2"), ("a", "b", "3")]


def test_a_promotion_twice_is_one(store: ArtefactStore) -> None:
    assert [promote(store, "a", run) for run in "12"] == [None, "a"]
    assert told(store) == [("a", None, "1")]


def test_a_promotion_that_was_killed_is_completed_by_the_next(
    store: ArtefactStore, tmp_path: Path
) -> None:
    promote(store, "a", "1")
    before = (tmp_path / "models" / "current.json").read_bytes()
    promote(store, "b", "2")
    (tmp_path / "models" / "current.json").write_bytes(before)

    assert promote(store, "b", "3") == "a"
    assert store.current() == {"markov": "b"}
    assert told(store) == [("a", None, "1"), ("b", "a", "2")]


class OvertakenStore(ArtefactStore):
    """Another run promotes a model when this one is about to write a file of this name."""

    def __init__(self, root: str, file: str, detector: str) -> None:
        super().__init__(root)
        self.file, self.detector = file, detector

    def write_file(self, name: str, content: bytes) -> str:
        if self.file in name:
            self.file = "none any more"
            at = datetime(2026, 1, 1, tzinfo=UTC)
            other = ArtefactStore(self.root)
            other.promote(self.detector, "the other", job="train", run_id="2", at=at)
        return super().write_file(name, content)


@pytest.mark.parametrize("file", ["promotions", "current.json"])
def test_of_two_runs_that_promote_at_once_none_undoes_the_other(
    store: ArtefactStore, file: str
) -> None:
    promote(OvertakenStore(store.root, file, "conduct"), "a", "1")

    assert store.current() == {"conduct": "the other", "markov": "a"}
    assert [one.model_id for one in store.promotions("conduct")] == ["the other"]
    assert told(store) == [("a", None, "1")]


@pytest.mark.parametrize("file", ["promotions", "current.json"])
def test_of_two_models_of_a_detector_promoted_at_once_one_scores_and_both_are_told_of(
    store: ArtefactStore, file: str
) -> None:
    promote(OvertakenStore(store.root, file, "markov"), "a", "1")

    *_, last = store.promotions("markov")
    assert store.current() == {"markov": last.model_id}
    assert {run_id for _, _, run_id in told(store)} == {"1", "2"}

    promote(store, "a", "3")
    assert store.current() == {"markov": "a"}
