"""The autoencoder on features."""

import json
from functools import cache

import numpy as np
import pytest
from builders import oddities, together, units, vocabulary

from habitus.domain.detectors import load_detector
from habitus.domain.detectors.autoencoder import AutoencoderDetector
from habitus.domain.detectors.summary import summarise
from habitus.domain.units import Units
from habitus.errors import ArtefactError, TrainingError
from habitus.setting_types import UnitKind

pytestmark = pytest.mark.train

KINDS: list[UnitKind] = ["session", "event"]


@cache
def fitted(kind: UnitKind = "session") -> AutoencoderDetector:
    words = vocabulary(kind)
    return AutoencoderDetector.fit(units(1500, 1, words), words, seed=7)


def with_context(some: Units, *values: float) -> Units:
    context = np.tile(np.array(values, dtype=np.float32), (len(some), 1))
    return Units(**{**some.__dict__, "context": context})


@pytest.mark.parametrize("kind", KINDS)
def test_card_tests_are_stranger_than_99_percent_of_the_chain(kind: UnitKind) -> None:
    words = vocabulary(kind)
    normal = fitted(kind).score(units(1500, 2, words))
    odd = fitted(kind).score(oddities(50, 3, words))

    assert odd.min() > np.quantile(normal, 0.99)
    # On average new units come to what held-out ones did.
    assert abs(normal.mean()) < 1


def test_numbers_that_do_not_go_together_are_strange_though_each_alone_is_not() -> None:
    matrix, features = summarise(units(1500, 4, vocabulary()), vocabulary())
    order = np.argsort(matrix[:, 0], kind="stable")
    short, long = matrix[order[100:200]], matrix[order[-200:-100]]
    assert [one.name for one in features[1:3]] == ["duration", "mean gap"]

    mixed = np.hstack([short[:, :1], long[:, 1:3], short[:, 3:]])

    medians = [np.median(fitted()._excess(some).sum(axis=1)) for some in (short, long, mixed)]
    assert medians[2] > max(medians[:2]) + 5


def test_the_score_of_a_unit_does_not_depend_on_the_others() -> None:
    many = units(30, 5, vocabulary())
    together = fitted().score(many)
    alone = [fitted().score(many.take(np.array([index])))[0] for index in range(30)]
    np.testing.assert_allclose(alone, together, atol=1e-9)


def test_no_units_have_no_scores() -> None:
    none = units(3, 1, vocabulary()).take(np.array([], dtype=np.int64))
    assert fitted().score(none).shape == (0,)
    assert fitted().explain(none, 3) == []


@pytest.mark.parametrize("unknown", [np.nan, np.inf, -np.inf])
def test_a_missing_number_counts_nothing_and_is_no_reason(unknown: float) -> None:
    normal = with_context(units(200, 6, vocabulary()), unknown, unknown)
    matrix, features = summarise(normal, vocabulary())
    missing = [index for index, one in enumerate(features) if one.name.startswith("user_")]

    assert (fitted()._excess(matrix)[:, missing] == 0).all()
    assert np.isfinite(fitted().score(normal)).all()
    for reasons in fitted().explain(normal, 40):
        assert not [one for one in reasons if one.field.startswith("user_")]


def test_numbers_beyond_all_bounds_are_as_strange_as_far_ones() -> None:
    some = units(5, 6, vocabulary())
    far, farther = (fitted().score(with_context(some, 1e9, value)) for value in (1e12, 3e38))
    np.testing.assert_array_equal(far, farther)


def test_reasons_are_what_the_other_numbers_do_not_tell() -> None:
    (reasons,) = fitted().explain(oddities(1, 3, vocabulary()), 5)

    assert len(reasons) == 5
    payments = next(reason for reason in reasons if reason.field == "number of pay")
    assert payments.observed == "12"
    assert payments.expected == (("0 to 1", pytest.approx(0.8)),)
    shares = [reason.share for reason in reasons]
    assert shares == sorted(shares, reverse=True)
    assert 0 < sum(shares) <= 1 + 1e-9


def test_what_never_varied_in_training_counts_when_it_does() -> None:
    words = vocabulary()
    training = units(1000, 1, words)
    action = training.tokens["action"]
    for token in (3, 4):  # every event is a view, then one event of a session is a search
        tokens = dict(training.tokens) | {"action": np.full_like(action, 3)}
        tokens["action"][training.offsets[:-1]] = token
        changed = Units(**{**training.__dict__, "tokens": tokens})
        if token == 3:
            detector = AutoencoderDetector.fit(changed, words, 7)
            before = detector.score(changed)
    assert (detector.score(changed) > before).mean() > 0.95


def test_the_same_seed_and_units_give_the_same_files() -> None:
    words = vocabulary()
    one, two, other = (
        AutoencoderDetector.fit(units(200, 1, words), words, seed).to_files() for seed in (1, 1, 2)
    )
    assert one == two
    assert one["autoencoder.npz"] != other["autoencoder.npz"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_detector_read_from_its_files_scores_and_explains_the_same(kind: UnitKind) -> None:
    words = vocabulary(kind)
    again = load_detector("autoencoder", fitted(kind).to_files(), words)
    some = together(units(20, 5, words), oddities(3, 3, words))

    np.testing.assert_array_equal(again.score(some), fitted(kind).score(some))
    assert again.explain(some, 5) == fitted(kind).explain(some, 5)


@pytest.mark.parametrize("name", ["autoencoder.json", "autoencoder.npz"])
@pytest.mark.parametrize("content", [None, b"", b"damaged", b"{}", b"PK\x03\x04"])
def test_a_missing_or_damaged_file_is_named(name: str, content: bytes | None) -> None:
    files = fitted().to_files()
    files.pop(name)
    if content is not None:
        files[name] = content
    with pytest.raises(ArtefactError, match=name):
        AutoencoderDetector.from_files(files, vocabulary())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"means": [0.0]}, "not every of 36 features has a mean"),
        ({"deviations": [0.0] * 36}, "deviations.0 Input should be greater than 0"),
        ({"more": 1}, "more Extra inputs are not permitted"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(change: dict[str, object], words: str) -> None:
    files = fitted().to_files()
    told = json.loads(files["autoencoder.json"]) | change
    files["autoencoder.json"] = json.dumps(told).encode()
    with pytest.raises(ArtefactError, match=f"autoencoder.json: {words}"):
        AutoencoderDetector.from_files(files, vocabulary())


def test_a_half_written_file_is_refused() -> None:
    files = fitted().to_files()
    files["autoencoder.npz"] = files["autoencoder.npz"][:-500]
    with pytest.raises(ArtefactError, match=r"autoencoder\.npz: not readable"):
        AutoencoderDetector.from_files(files, vocabulary())


def test_files_made_for_another_vocabulary_are_refused() -> None:
    with pytest.raises(ArtefactError, match="made for vocabulary"):
        AutoencoderDetector.from_files(fitted().to_files(), vocabulary("event"))


def test_a_few_units_are_too_few_and_twenty_are_not() -> None:
    words = vocabulary()
    with pytest.raises(TrainingError, match="19 training units, fewer than 20"):
        AutoencoderDetector.fit(units(19, 1, words), words, 7)
    detector = AutoencoderDetector.fit(units(20, 1, words), words, 7)
    assert np.isfinite(detector.score(units(20, 2, words))).all()
