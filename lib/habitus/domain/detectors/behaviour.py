"""The behaviour language model as a detector: units are scored by how much they surprise it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from habitus.domain.detectors.base import THE_END, TOO_REGULAR, Reason, Scores, within_sequence
from habitus.domain.detectors.behaviour_model import (
    LOG_PROBABILITIES,
    MEASURES,
    BehaviourModel,
    told,
)
from habitus.domain.detectors.files import MEND, arrays_file, read_about, read_arrays
from habitus.domain.detectors.rarity import FIELD, HABIT, TOTAL, Rarity, Surprises
from habitus.domain.detectors.repeats import Repeats
from habitus.domain.models.batches import Batch
from habitus.domain.models.shape import Array, BehaviourShape
from habitus.domain.representations import Whitening
from habitus.domain.units import Floats, Units
from habitus.domain.vocabulary import MISSING, Vocabulary
from habitus.errors import ArtefactError

MODEL, SETTINGS = "model.onnx", "behaviour.json"
WEIGHTS, WHITENING = "weights.npz", "whitening.npz"
_LIKELIER = 3
_RARE_COUNT = float(np.log(20))  # nats; one in 20 sessions does something as often


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    shape: BehaviourShape
    rarity: Rarity
    repeats: Repeats | None


class _Regularity(NamedTuple):
    """A field that surprises too little: its index, by how many nats, and their share of all."""

    field: int
    below: float
    share: float

    def reason(self, event: int, fields: Sequence[str]) -> Reason:
        """At the event where it is furthest below what the model expects."""
        return Reason(
            event_index=event,
            field=f"{fields[self.field]}_pattern",
            observed=TOO_REGULAR,
            expected=(),
            surprise=self.below / float(np.log(2)),
            share=self.share,
            against="sequence",
        )


class BehaviourDetector:
    """Scores units with a trained behaviour model.

    Args:
        vocabulary: What the tokens mean.
        shape: The model's.
        content: The model as ONNX.
        weights: The same model's weights for Keras, to train it further.
        rarity: What is normal; none before it is fitted.
        whitening: What makes vectors of its states; fitted with it.
        repeats: How often sessions do each thing; fitted with it where the shape has counts.
    """

    name: ClassVar[str] = "behaviour"

    def __init__(
        self,
        vocabulary: Vocabulary,
        shape: BehaviourShape,
        content: bytes,
        weights: Mapping[str, Array],
        rarity: Rarity | None = None,
        whitening: Whitening | None = None,
        repeats: Repeats | None = None,
    ) -> None:
        self.model = BehaviourModel(shape, content)
        self._vocabulary = vocabulary
        self._content = content
        self._weights = dict(weights)
        self._rarity = rarity
        self._whitening = whitening
        self._repeats = repeats

    @property
    def shape(self) -> BehaviourShape:
        """The model's."""
        return self.model.shape

    @property
    def weights(self) -> Mapping[str, Array]:
        """The model's weights for Keras, by layer and name."""
        return self._weights

    def fit_rarity(self, held_out: Units) -> None:
        """Learn what is normal from units that the model was not trained on; at least one."""
        if self.shape.counts:
            self._repeats = Repeats.fit(held_out, self._vocabulary.field("action").size)
        self._rarity = Rarity.fit(self._surprises(held_out))
        self._whitening = Whitening.fit(self._pooled(held_out))

    def score(self, units: Units) -> Scores:
        """[N] how rare each unit is, in nats; higher is stranger."""
        return self._fitted().score(self._surprises(units))

    def _surprises(self, units: Units) -> Surprises:
        found = self.model.surprises(units)
        if self._repeats is None:
            return found
        return replace(found, rarest_count=self._repeats.rarest(units)[0])

    def _fitted(self) -> Rarity:
        if self._rarity is None:
            raise ValueError("fit_rarity comes first")
        return self._rarity

    def nats(self, units: Units) -> Scores:
        """[N] surprise of all that is judged in each unit, its end included if it is closed."""
        return self.model.nats(units)

    def vectors(self, units: Units) -> Floats:
        """[N, H] a vector of length 1 for each unit: units like each other point alike."""
        if self._whitening is None:
            raise ValueError("fit_rarity comes first")
        return self._whitening.vectors(self._pooled(units))

    def _pooled(self, units: Units) -> Floats:
        return self.model.pooled(units, self._vocabulary.unit_kind)

    def explain(self, units: Units, count: int) -> list[list[Reason]]:
        """The events and fields that surprised most beyond what the model expected.

        Where a unit is strange for surprising too little, that is its first reason. Where it is for
        being unlike its user, the events and fields are those that are least like the user. What
        is done too often comes first where it is rarer than all that is surprising.
        """
        found = self._surprises(units)
        pieces, of_counts = self._fitted().rarities(found)
        leading = pieces.argmax(axis=1)
        too_regular = self._regularities(found, leading)
        explained: list[list[Reason]] = [[] for _ in range(len(units))]
        ends = np.cumsum(self.shape.predicted)[:-1]
        for chosen, batch in self.model.by_length(units):
            surprise, entropy, logs = self.model.run([*MEASURES[:2], LOG_PROBABILITIES], batch)
            chances = np.split(logs, ends, axis=2)
            counts = told(batch)
            surprise = np.where(counts, surprise, 0)
            unlike = leading[chosen] == HABIT
            usual = entropy.copy()
            if unlike.any():
                usual[unlike] = self.model.surprise_to_anyone(batch)[unlike]
            excess = np.where(counts, surprise - usual, -np.inf)
            flat = excess.reshape(len(chosen), -1)
            strongest = np.argsort(-flat, axis=1, kind="stable")[:, :count]
            totals = surprise.sum(axis=(1, 2))
            for row, unit in enumerate(chosen):
                if regular := too_regular.get(int(unit)):
                    below = np.where(counts[row], entropy[row] - surprise[row], -np.inf)
                    at = int(below[: units.lengths[unit], regular.field].argmax())
                    explained[unit].append(regular.reason(at, self.shape.fields))
                reasons = [
                    self._reason(batch, row, divmod(int(cell), excess.shape[2]), chances, totals)
                    for cell in strongest[row]
                    if flat[row, cell] > 0
                ]
                if unlike[row]:
                    reasons = [replace(reason, against="history") for reason in reasons]
                explained[unit] += reasons
        self._add_repeats(explained, units, of_counts, pieces.max(axis=1))
        return [reasons[:count] for reasons in explained]

    def _add_repeats(
        self, explained: list[list[Reason]], units: Units, of_counts: Scores, others: Scores
    ) -> None:
        """Tell of rare counts, by [N] how rare they are and the rarest of what surprises."""
        rare = np.flatnonzero(of_counts > _RARE_COUNT)
        if self._repeats is None or not len(rare):
            return
        share = of_counts[rare] / (of_counts[rare] + others[rare])
        actions = self._vocabulary.field("action")
        for unit, count in zip(
            rare, self._repeats.reasons(units.take(rare), actions, share), strict=True
        ):
            rest = [replace(one, share=one.share * (1 - count.share)) for one in explained[unit]]
            first = 0 if of_counts[unit] > others[unit] else 1
            explained[unit] = [*rest[:first], count, *rest[first:]]

    def _regularities(
        self, found: Surprises, leading: npt.NDArray[np.int64]
    ) -> dict[int, _Regularity]:
        """Of each unit that is strange for being too regular, by index, the field that is most.

        Args:
            found: What the model makes of N units.
            leading: [N] the rarest piece of evidence of each.
        """
        deviations = self._fitted().deviations(found)
        # The total's own reason is the field that brings most to it.
        field = np.where(
            leading == FIELD,
            np.abs(deviations[:, :-1]).argmax(axis=1),
            found.excess.argmin(axis=1),
        )
        rows = np.arange(len(field))
        deciding = np.where(leading == TOTAL, deviations[:, -1], deviations[rows, field])
        regular = np.flatnonzero(np.isin(leading, (TOTAL, FIELD)) & (deciding < 0))
        below = -found.excess[rows, field]
        share = below / np.maximum(np.abs(found.excess).sum(axis=1), 1e-9)
        return {
            int(unit): _Regularity(int(field[unit]), float(below[unit]), float(share[unit]))
            for unit in regular
        }

    def _reason(
        self,
        batch: Batch,
        row: int,
        where: tuple[int, int],
        chances: list[Array],
        totals: Array,
    ) -> Reason:
        step, index = where
        token = int(batch.tokens[row, step, index])
        logs = chances[index][row, step]
        likelier = [
            (self._describe(index, int(other)), float(np.exp(logs[other])))
            for other in np.argsort(-logs, kind="stable")[: _LIKELIER + 1]
            if logs[other] > logs[token] and other >= MISSING
        ]
        at_end = index == 0 and token == self.shape.end
        surprise = float(-logs[token])
        return Reason(
            event_index=None if at_end else step,
            field=self.shape.fields[index],
            observed=self._describe(index, token),
            expected=tuple(likelier[:_LIKELIER]),
            surprise=surprise / float(np.log(2)),
            share=surprise / max(float(totals[row]), 1e-9),
            against=within_sequence(self._vocabulary.unit_kind, self.shape.fields[index]),
        )

    def _describe(self, index: int, token: int) -> str:
        if index == 0 and token == self.shape.end:
            return THE_END
        return self._vocabulary.field(self.shape.fields[index]).describe(token)

    def to_files(self) -> dict[str, bytes]:
        """The ONNX model, its shape with what is normal, and the weights for Keras."""
        stored = _Stored(shape=self.shape, rarity=self._fitted(), repeats=self._repeats)
        assert self._whitening is not None, "both are fitted together"
        return {
            MODEL: self._content,
            SETTINGS: stored.model_dump_json(indent=1).encode(),
            WEIGHTS: arrays_file(self._weights),
            WHITENING: arrays_file(vars(self._whitening)),
        }

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], vocabulary: Vocabulary) -> Self:
        """Read what `to_files` wrote.

        Raises:
            ArtefactError: A file is missing, damaged, or made for another vocabulary.
        """
        stored = read_about(_Stored, files, SETTINGS, [MODEL, WEIGHTS, WHITENING])
        _refuse_other(stored.shape, vocabulary)
        if stored.repeats is not None:
            stored.repeats.refuse_other(SETTINGS, vocabulary)
        weights = read_arrays(files, WEIGHTS)
        try:
            whitening = Whitening(**read_arrays(files, WHITENING))
        except TypeError as error:
            raise ArtefactError(WHITENING, f"holds something else: {error}", MEND) from error
        try:
            fitted = stored.rarity, whitening, stored.repeats
            return cls(vocabulary, stored.shape, files[MODEL], weights, *fitted)
        except Exception as error:  # ONNX Runtime has no one root for what a damaged file raises
            raise ArtefactError(MODEL, f"not readable: {error}", MEND) from error


def _refuse_other(shape: BehaviourShape, vocabulary: Vocabulary) -> None:
    sizes = {field.name: field.size for field in vocabulary.fields}
    made_for = dict(zip(shape.fields, shape.sizes, strict=True))
    if made_for != sizes:
        raise ArtefactError(SETTINGS, f"made for the fields {made_for}, not for {sizes}", MEND)
    known = dict(enumerate(vocabulary.context))
    for column, name in zip(shape.columns, shape.context, strict=True):
        if known.get(column) != name:
            raise ArtefactError(
                SETTINGS, f"made for feature {column} to be {name}, not {known.get(column)}", MEND
            )
