"""The model card: what a model is, what it learned from, and how far to trust it.

After Mitchell et al. (2019), "Model cards for model reporting".
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from habitus.domain.selection import Importance

_WHAT = {
    "behaviour": "A neural language model over several fields per event. It predicts each field of "
    "the next event from the events before and the user's own history; a unit scores by how rare "
    "its surprise is, and a session, with `counts`, also by how rare it is to do one thing so "
    "often.",
    "markov": "A back-off Markov model over several fields per event; a unit scores by its "
    "surprise.",
    "isolation_forest": "An isolation forest on counts and statistics of the unit and on the "
    "user's own history.",
    "conduct": "An isolation forest on how far a unit departs from the usual order of its events, "
    "field by field under a back-off Markov model, from the usual pace, and of a session how rare "
    "it is to do one thing so often; a unit scores by how soon random cuts separate it from "
    "training units. An event counts with those before it, and by how it compares with them.",
    "autoencoder": "A denoising autoencoder on counts and statistics of the unit and on the user's "
    "own history; a unit scores by how little its numbers follow from each other, in nats.",
    "count_distance": "The distance of a unit's counts of actions to the nearest training unit, in "
    "bits.",
    "ecod": "The tails of counts and statistics of the unit and of the user's own history (ECOD); "
    "a unit scores by how far out its numbers are, in bits over all of them.",
    "kmeans": "Clusters of k-means among counts and statistics of the unit and the user's own "
    "history; a unit scores by its distance from the nearest one, relative to that one's spread.",
    "bisecting_kmeans": "Clusters of bisecting k-means among counts and statistics of the unit and "
    "the user's own history; a unit scores by its distance from the nearest one, relative to that "
    "one's spread.",
    "gradient_boosting": "Gradient-boosted trees on counts, statistics, features and conduct of "
    "the unit, fitted on labels; a unit scores by its log-odds of being anomalous.",
    "random_forest": "A random forest on counts, statistics, features and conduct of the unit, "
    "fitted on labels; a unit scores by its log-odds of being anomalous.",
    "logistic_regression": "A logistic regression on counts, statistics, features and conduct of "
    "the unit, fitted on labels; a unit scores by its log-odds of being anomalous.",
    "linear_svm": "A linear support vector machine on counts, statistics, features and conduct of "
    "the unit, fitted on labels; a unit scores by its log-odds of being anomalous.",
    "fine_tuned": "The body of the behaviour model with a head that also sees counts, statistics "
    "and features of the unit, trained further on labels; a unit scores by its log-odds of "
    "being anomalous.",
    "ensemble": "Several detectors as one; a unit scores by the weighted sum of how rare its score "
    "is by each of them.",
}


class LabelsUsed(BaseModel):
    """What a model was told of its training units.

    Args:
        known_by: Labels that became known later were not used.
        anomalous: How many units were known to be anomalous.
        fingerprint: Hash of which ones.
        later: How many labels became known later.
        unmatched: How many of those known by then name no unit, nor an event or user of one.
    """

    model_config = ConfigDict(frozen=True)

    known_by: str
    anomalous: int
    fingerprint: str
    later: int = 0
    unmatched: int = 0


class Card(BaseModel):
    """What a reader should know before relying on a model.

    Args:
        model_id: Detector and fingerprint of settings and data.
        detector: Name of the detector.
        unit_kind: What is judged: session or event.
        table: Table that it learned from.
        version: Version of that table.
        fingerprint: Hash of the rows that it learned from, whatever their order and version.
        vocabulary_id: Vocabulary of the tokens.
        units: Units of each part of the time split.
        split: Where each part ends.
        risk_features: Whether some features are computed from labels.
        settings: Settings that decide what is learned.
        epochs: Losses of each epoch; empty for models without epochs.
        calibration: Units calibrated on, and the median and 99th percentile of their scores.
        segments: Where there are segments: which have p-values of their own, and what stands in for
            the others.
        labels: For models that learn from labels: how many training units were known to be
            anomalous by when.
        weights: For ensembles: how their members were weighed.
        importances: Where features were selected: what each was worth to a model with all of them.
        dropped: The features that it does without then.
        constant: The features that are the same of all units learned from.
    """

    model_config = ConfigDict(frozen=True)

    model_id: str
    detector: str
    unit_kind: str
    table: str
    version: int
    fingerprint: str
    vocabulary_id: str
    units: Mapping[str, int]
    split: Mapping[str, str]
    risk_features: bool
    settings: Mapping[str, Any]
    epochs: Sequence[Mapping[str, float]]
    calibration: Mapping[str, float]
    segments: str | None
    labels: LabelsUsed | None
    weights: str | None = None
    importances: Sequence[Importance] = ()
    dropped: Sequence[str] = ()
    constant: Sequence[str] = ()

    def to_markdown(self) -> str:
        """The card as a page for people."""
        learned = [
            f"- Table `{self.table}`, version {self.version}, content `{self.fingerprint}`.",
            f"- {self.units['training']:,} {self.unit_kind}s that ended from "
            f"{self.split['train_from']} until {self.split['train_until']} to learn from, or as "
            "many of them as the settings below take.",
            f"- {self.units['validation']:,} more before {self.split['calibrate_from']} "
            f"{self._validated()}.",
            f"- {self.units['calibration']:,} more before {self.split['validation_until']}, "
            f"{self.calibration['units']:,.0f} of them used, to turn scores into p-values.",
            self._labels(),
        ]
        same = ", ".join(f"`{name}`" for name in self.constant)
        constant = f"Features that tell nothing, as they are the same of all units: {same}"
        also = (self.weights, self.segments, constant if same else None)
        learned += [f"- {told}." for told in also if told]
        parts = [
            f"# {self.model_id}",
            _WHAT[self.detector],
            "## What it learned from",
            "\n".join(learned),
            "## How well it foresees behaviour" if self.epochs else "",
            _table(self.epochs) if self.epochs else "",
            "## What its features are worth" if self.importances else "",
            self._features() if self.importances else "",
            "## Scores",
            f"Half of the calibration units score above {self.calibration['median']:.3g}, one in "
            f"a hundred above {self.calibration['percentile_99']:.3g}. A p-value says how many "
            "units like those it was calibrated on score at least as high; where behaviour "
            "drifts away from them, p-values shrink and the model should be trained again.",
            "How it compares with other detectors stands at the end of this card, once `habitus "
            "evaluate` has met labels of a later time.",
            "## What it is not for",
            "It says that behaviour is unusual, not that it is wrong: a person should look before "
            "anything is held against anyone. It knows nothing of users, items or kinds of "
            "behaviour that did not occur in its training period.",
            "## Settings",
            "\n".join(f"- `{name}`: {value}" for name, value in self.settings.items()),
        ]
        return "\n\n".join(part for part in parts if part) + "\n"

    def _validated(self) -> str:
        """What validation units are for."""
        if self.weights:
            return "to decide what each member's score is worth"
        if self.epochs:
            return "to decide when to stop"
        if self.importances:
            return "to decide which features tell anything"
        return "that this model does without"

    def _labels(self) -> str:
        if self.labels is not None:
            return (
                f"- Labels known by {self.labels.known_by}, which say that "
                f"{self.labels.anomalous:,} of those learned from are anomalous. Not used: "
                f"{self.labels.later:,} labels that became known later, and "
                f"{self.labels.unmatched:,} that name no unit."
            )
        whose = "Its members: " if self.weights else ""
        if self.risk_features:
            return f"- {whose}Labels only in the features that are computed from them."
        return f"- {whose}No labels."

    def _features(self) -> str:
        dropped = ", ".join(f"`{name}`" for name in self.dropped) or "none"
        rows = [f"| {one.feature} | {one.lost:.4f} | {one.error:.4f} |" for one in self.importances]
        return (
            "Average precision on validation units that is lost when the feature's values change "
            f"places, and the standard error of that. Dropped, for telling nothing: {dropped}.\n\n"
            "| feature | lost | error |\n| --- | --- | --- |\n" + "\n".join(rows)
        )


def with_comparison(card: str, comparison: str) -> str:
    """A card's page that ends with how the model compares, in place of an older comparison.

    Args:
        card: As from `Card.to_markdown`, or from here.
        comparison: A page about the models compared, which begins with its title.
    """
    title, _, content = comparison.partition("\n")
    before = card.partition(f"\n#{title}\n")[0]
    return f"{before.rstrip()}\n\n#{title}\n{content}"


def _table(epochs: Sequence[Mapping[str, float]]) -> str:
    best = min(epoch["validation_loss"] for epoch in epochs)
    rows = [
        f"| {epoch['epoch']:.0f} | {epoch['loss']:.4f} | {epoch['validation_loss']:.4f} |"
        + (" best" if epoch["validation_loss"] == best else "")
        for epoch in epochs
    ]
    head = "| epoch | training loss | validation loss |\n| --- | --- | --- |\n"
    return "Losses in nats per event.\n\n" + head + "\n".join(rows)
