"""Settings: layers, types, and errors that name the place, the value and the mend."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from habitus.errors import SettingsError
from habitus.loading import configuration_folder, describe, load_settings
from habitus.model_settings import Choices

pytestmark = pytest.mark.plain

FEATURE = "features=[{{windows: [1 day], {}}}]"


def test_overrides_stand_above_the_environment_and_the_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = (configuration_folder() / "base.yaml").read_text()
    (tmp_path / "base.yaml").write_text(base)
    (tmp_path / "site.yaml").write_text("seed: 8\nsessions: {gap: 45 minutes, max_events: 9}\n")
    monkeypatch.setenv("HABITUS_CONF", str(tmp_path))

    settings = load_settings("site", ["sessions.max_events=10", "lake.schema=shop"])

    assert settings.seed == 8
    assert settings.sessions.gap == timedelta(minutes=45)
    assert settings.sessions.max_events == 10
    assert settings.lake.schema_name == "shop"
    assert settings.sessions.by == load_settings().sessions.by


def test_secrets_are_not_told() -> None:
    options = "{spark.hadoop.fs.s3a.secret.key: abc123, spark.ui.enabled: 'false'}"
    uri = "https://me:abc123@tracking/x"
    settings = load_settings(overrides=[f"spark.options={options}", f"tracking.uri={uri}"])

    told = json.loads(settings.model_dump_json())

    assert told["spark"]["options"] == {
        "spark.hadoop.fs.s3a.secret.key": "(redacted)",
        "spark.ui.enabled": "false",
    }
    assert told["tracking"]["uri"] == "https://(redacted)@tracking/x"
    assert settings.spark.options["spark.hadoop.fs.s3a.secret.key"] == "abc123"
    assert settings.tracking.uri == uri


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load_settings().seed = 1  # type: ignore[misc]


def test_a_time_of_the_split_is_a_time_or_a_share() -> None:
    assert load_settings(overrides=["split.train_until=0.25"]).split.train_until == 0.25
    time = load_settings(overrides=["split.train_until=2026-01-31"]).split.train_until
    assert time == datetime(2026, 1, 31, tzinfo=UTC)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("session.gap=1 hour", ["'session'", "'sessions'"]),
        ("sessions.gapp=1 hour", ["'sessions.gapp'", "'gap'"]),
        ("sessions.gap=soon", ["'sessions.gap'", "'soon'"]),
        ("sessions.gap=-1 hour", ["'sessions.gap'", "longer than nothing"]),
        ("seed=many", ["'seed'", "'many'", "integer"]),
        ("split.train_until=7", ["split.train_until", "7"]),
        ("detectors=[behavior]", ["'detectors.0'", "'behavior'", "'behaviour'"]),
        ("features=[{entity: user, measures: [count]}]", ["features.0.windows", "missing"]),
        ("features=[{entity: user, windos: [1 day]}]", ["windos"]),
        (FEATURE.format("entity: user, measures: [share]"), ["share of what", "`where: {outcome"]),
        (FEATURE.format("entity: user, measures: [entropy]"), ["entropy of what", "`of: device`"]),
        (FEATURE.format("entity: user, measures: [distinct], of: user"), ["`of: user` needs"]),
        (FEATURE.format("entity: user, measures: [count], of: device"), ["`of: device` needs"]),
        (FEATURE.format("entity: [item, item], measures: [count]"), ["a pair of item and itself"]),
        ("seed", ["'seed'", "key=value"]),
        ("seed={", ["'{'"]),
        ("alerts.detector=ecod", ["alerts.detector 'ecod'", "Name one of conduct, behaviour"]),
        ("detectors=[behaviour, ensemble]", ["names conduct, not", "Fit them too"]),
        ("train.fine_tune.frozen=all", ["'train.fine_tune.frozen'"]),
        ("ensemble.members=[markov]", ["'ensemble.members'", "at least 2"]),
        ("ensemble.members=[markov, ensemble]", ["'ensemble.members'", "other detectors"]),
        ("train.behaviour.body=rnn", ["'train.behaviour.body'", "'rnn'", "'transformer'"]),
        ("train.behaviour.cnn_lstm.width=1", ["'train.behaviour.cnn_lstm.width'", "equal to 2"]),
        (
            "train.behaviour={body: transformer, hidden: 50}",
            ["hidden 50 is no multiple of transformer.heads 4", "Set hidden to 52"],
        ),
        (
            "tune.ranges={train.batch_size: {low: 1}}",
            ["tune.ranges.train.batch_size has choices and low", "should not have to null"],
        ),
        (
            "tune.ranges={train.batch_size: {choices: null, low: 1, hgh: 8}}",
            ["tune.ranges.train.batch_size has no 'hgh'", "Did you mean 'high'?"],
        ),
        (
            "alerts.rules=[{when: Flags_before > 1, decision: block, why: often}, "
            "{when: p_value > 1, decision: allow, why: never}]",
            ["alerts.rules[0].when asks for flags_before", "Move it below"],
        ),
        ("lake.catalog=main", ["lake.catalog 'main' has no schema", "Set lake.schema"]),
    ],
)
def test_a_wrong_override_is_refused_by_name(override: str, words: list[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(overrides=[override])

    assert "--set" in caught.value.place
    for word in words:
        assert word in str(caught.value)


def test_a_range_may_become_choices() -> None:
    over = "{choices: [0.1], low: null, high: null, log: null}"
    ranges = load_settings(overrides=[f"tune.ranges={{train.learning_rate: {over}}}"]).tune.ranges
    assert ranges["train.learning_rate"] == Choices(choices=(0.1,))


def test_what_goes_on_from_the_behaviour_model_is_refused_without_it() -> None:
    with pytest.raises(SettingsError, match=r"goes on from behaviour, which is not .* Fit it too"):
        load_settings(overrides=["detectors=[markov, fine_tuned]", "alerts.detector=markov"])


def test_an_unknown_environment_is_refused_with_the_nearest() -> None:
    with pytest.raises(SettingsError, match=r"demoo\.yaml: no such file\. Did you mean 'demo'\?"):
        load_settings("demoo")


def test_a_file_that_is_no_yaml_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "base.yaml").write_text("seed: [1\n")
    monkeypatch.setenv("HABITUS_CONF", str(tmp_path))

    with pytest.raises(SettingsError, match="not readable as YAML"):
        load_settings()


def test_every_setting_says_what_it_means() -> None:
    listed = list(describe(load_settings()))

    assert (
        "sessions.gap",
        "30 minutes",
        "A longer pause than this starts a new session.",
    ) in listed
    assert [key for key, _, meaning in listed if not meaning] == []


def test_every_environment_file_loads() -> None:
    names = {path.stem for path in configuration_folder().glob("*.yaml")} - {"base"}

    for name in names:
        assert load_settings(name).seed >= 0


def test_settings_of_a_body_that_is_not_chosen_decide_nothing() -> None:
    overrides = ["train.behaviour={hidden: 50, transformer: {heads: 3}}"]
    settings = load_settings(overrides=overrides).train.behaviour
    assert {"cnn_lstm", "transformer"}.isdisjoint(settings.in_use)
    chosen = load_settings(overrides=["train.behaviour.body=transformer"]).train.behaviour.in_use
    assert chosen["transformer"] == {"layers": 2, "heads": 4}
    assert "cnn_lstm" not in chosen


@pytest.mark.parametrize(("scaling", "rate"), [("none", 0.01), ("sqrt", 0.02), ("linear", 0.04)])
def test_the_learning_rate_follows_the_number_of_workers(scaling: str, rate: float) -> None:
    overrides = ["train.learning_rate=0.01", f"train.learning_rate_scaling={scaling}"]
    four = load_settings(overrides=[*overrides, "train.workers=4"]).train
    assert four.scaled_learning_rate == pytest.approx(rate, rel=1e-12)
    assert load_settings(overrides=overrides).train.scaled_learning_rate == 0.01


def test_by_default_the_learning_rate_grows_with_the_square_root_of_the_workers() -> None:
    assert load_settings().train.learning_rate_scaling == "sqrt"
