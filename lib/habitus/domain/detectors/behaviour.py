"""The behaviour language model as a detector: units are scored by how much they surprise it."""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from habitus.domain.detectors.base import TOO_REGULAR, Reason, Scores, within_sequence
from habitus.domain.detectors.files import MEND, read_about
from habitus.domain.detectors.rarity import EVENT, FIELD, TOTAL, Rarity, Surprises
from habitus.domain.models.batches import Batch, by_length, padding
from habitus.domain.models.onnx_session import session_of
from habitus.domain.models.shape import Array, BehaviourShape
from habitus.domain.representations import Whitening, pooled
from habitus.domain.units import Floats, Units
from habitus.domain.vocabulary import MISSING, Vocabulary
from habitus.errors import ArtefactError

MODEL, SETTINGS = "model.onnx", "behaviour.json"
WEIGHTS, WHITENING = "weights.npz", "whitening.npz"
# Of units of like length that are scored together: what is made of more leaves the cache.
BATCH_POSITIONS = 1024
# Among the model's outputs: its body's state, and how likely each token of each field is.
STATE, LOG_PROBABILITIES = "state", "log_probabilities"
THE_END = "the end"
_LIKELIER = 3
_MEASURES = ["surprise", "entropy", "variance"]


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    shape: BehaviourShape
    rarity: Rarity


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
    ) -> None:
        self.shape = shape
        self._vocabulary = vocabulary
        self._content = content
        self._weights = dict(weights)
        self._rarity = rarity
        self._whitening = whitening
        self._session = session_of(content)

    @property
    def weights(self) -> Mapping[str, Array]:
        """The model's weights for Keras, by layer and name."""
        return self._weights

    def fit_rarity(self, held_out: Units) -> None:
        """Learn what is normal from units that the model was not trained on; at least one."""
        self._rarity = Rarity.fit(self.surprises(held_out))
        self._whitening = Whitening.fit(self._pooled(held_out))

    def score(self, units: Units) -> Scores:
        """[N] how rare each unit is, in nats; higher is stranger."""
        return self._fitted().score(self.surprises(units))

    def _fitted(self) -> Rarity:
        if self._rarity is None:
            raise ValueError("fit_rarity comes first")
        return self._rarity

    def surprises(self, units: Units) -> Surprises:
        """What the model makes of each unit."""
        size = (len(units), len(self.shape.fields))
        excess, variance, judged = np.zeros(size), np.zeros(size), np.zeros(size)
        strongest = np.zeros(len(units))
        for chosen, batch in self._by_length(units):
            surprise, entropy, spread = self._run(_MEASURES, batch)
            beyond = surprise - entropy
            # Products, as numpy adds along a middle axis slowly. Where there is no token all is 0.
            counts = batch.judged[:, None].astype(np.float32)
            excess[chosen] = (counts @ beyond)[:, 0]
            variance[chosen] = (counts @ spread)[:, 0]
            judged[chosen] = (counts @ (batch.tokens > 0).astype(np.float32))[:, 0]
            # What is not judged, padding above all, is no event that could be the strongest.
            of_event = beyond @ np.ones(size[1], dtype=np.float32)
            strongest[chosen] = np.where(batch.judged, of_event, -np.inf).max(axis=1)
        strongest[np.isinf(strongest)] = 0.0  # where nothing is judged
        return Surprises(excess, variance, judged, strongest)

    def nats(self, units: Units) -> Scores:
        """[N] surprise of all that is judged in each unit, its end included if it is closed."""
        nats = np.zeros(len(units))
        for chosen, batch in self._by_length(units):
            (surprise,) = self._run(["surprise"], batch)
            nats[chosen] = np.where(_judged(batch), surprise, 0).sum(axis=(1, 2))
        return nats

    def vectors(self, units: Units) -> Floats:
        """[N, H] a vector of length 1 for each unit: units like each other point alike."""
        if self._whitening is None:
            raise ValueError("fit_rarity comes first")
        return self._whitening.vectors(self._pooled(units))

    def _pooled(self, units: Units) -> Floats:
        """[N, H] the pooled states of each unit, see `representations.pooled`."""
        states = np.zeros((len(units), self.shape.hidden), dtype=np.float32)
        for chosen, batch in self._by_length(units):
            # The state that has read a unit's last event is one position further.
            longer = replace(
                batch,
                tokens=np.pad(batch.tokens, ((0, 0), (0, 1), (0, 0))),
                judged=np.pad(batch.judged, ((0, 0), (0, 1))),
            )
            (found,) = self._run([STATE], longer)
            states[chosen] = pooled(found, units.lengths[chosen])
        return states

    def explain(self, units: Units, count: int) -> list[list[Reason]]:
        """The events and fields that surprised most beyond what the model expected.

        Where a unit is strange for surprising too little, that is its first reason.
        """
        too_regular = self._regularities(units)
        explained: list[list[Reason]] = [[] for _ in range(len(units))]
        ends = np.cumsum(self.shape.predicted)[:-1]
        for chosen, batch in self._by_length(units):
            surprise, entropy, logs = self._run([*_MEASURES[:2], LOG_PROBABILITIES], batch)
            chances = np.split(logs, ends, axis=2)
            counts = _judged(batch)
            surprise = np.where(counts, surprise, 0)
            excess = np.where(counts, surprise - entropy, -np.inf)
            flat = excess.reshape(len(chosen), -1)
            strongest = np.argsort(-flat, axis=1, kind="stable")[:, :count]
            totals = surprise.sum(axis=(1, 2))
            for row, unit in enumerate(chosen):
                if found := too_regular.get(int(unit)):
                    below = np.where(counts[row], entropy[row] - surprise[row], -np.inf)
                    at = int(below[: units.lengths[unit], found.field].argmax())
                    explained[unit].append(found.reason(at, self.shape.fields))
                explained[unit] += [
                    self._reason(batch, row, divmod(int(cell), excess.shape[2]), chances, totals)
                    for cell in strongest[row]
                    if flat[row, cell] > 0
                ]
        return [reasons[:count] for reasons in explained]

    def _regularities(self, units: Units) -> dict[int, "_Regularity"]:
        """Of each unit that is strange for being too regular, by index, the field that is most."""
        found = self.surprises(units)
        rarity = self._fitted()
        deviations = rarity.deviations(found)
        leading = rarity.rarities(found).argmax(axis=1)
        # The total's own reason is the field that brings most to it.
        field = np.where(
            leading == FIELD,
            np.abs(deviations[:, :-1]).argmax(axis=1),
            found.excess.argmin(axis=1),
        )
        rows = np.arange(len(units))
        deciding = np.where(leading == TOTAL, deviations[:, -1], deviations[rows, field])
        regular = np.flatnonzero((leading != EVENT) & (deciding < 0))
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

    def padding(self, units: Units) -> tuple[int, int]:
        """How many positions these units are scored at, and how many of them are padding."""
        lengths = self.shape.lengths(units)
        return padding(lengths, BATCH_POSITIONS, self.shape, BATCH_POSITIONS)

    def _by_length(self, units: Units) -> Iterator[tuple[npt.NDArray[np.int64], Batch]]:
        return by_length(units, BATCH_POSITIONS, self.shape, BATCH_POSITIONS)

    def _run(self, outputs: list[str], batch: Batch) -> list[Array]:
        """[B, T, ...] outputs of the model."""
        given = {"tokens": batch.tokens, "context": batch.context}
        return [
            values.reshape(*batch.judged.shape, -1) for values in self._session.run(outputs, given)
        ]

    def to_files(self) -> dict[str, bytes]:
        """The ONNX model, its shape with what is normal, and the weights for Keras."""
        stored = _Stored(shape=self.shape, rarity=self._fitted())
        assert self._whitening is not None, "both are fitted together"
        return {
            MODEL: self._content,
            SETTINGS: stored.model_dump_json(indent=1).encode(),
            WEIGHTS: _archive(self._weights),
            WHITENING: _archive(vars(self._whitening)),
        }

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], vocabulary: Vocabulary) -> Self:
        """Read what `to_files` wrote.

        Raises:
            ArtefactError: A file is missing, damaged, or made for another vocabulary.
        """
        stored = read_about(_Stored, files, SETTINGS, [MODEL, WEIGHTS, WHITENING])
        _refuse_other(stored.shape, vocabulary)
        weights = _arrays(files, WEIGHTS)
        try:
            whitening = Whitening(**_arrays(files, WHITENING))
        except TypeError as error:
            raise ArtefactError(WHITENING, f"holds something else: {error}", MEND) from error
        try:
            return cls(vocabulary, stored.shape, files[MODEL], weights, stored.rarity, whitening)
        except Exception as error:  # ONNX Runtime has no one root for what a damaged file raises
            raise ArtefactError(MODEL, f"not readable: {error}", MEND) from error


def _archive(arrays: Mapping[str, Array]) -> bytes:
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


def _arrays(files: Mapping[str, bytes], name: str) -> dict[str, Array]:
    try:
        with np.load(io.BytesIO(files[name]), allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except (OSError, ValueError) as error:
        raise ArtefactError(name, f"not readable: {error}", MEND) from error


def _judged(batch: Batch) -> npt.NDArray[np.bool_]:
    """[B, T, F] which tokens count."""
    return batch.judged[:, :, None] & (batch.tokens > 0)


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
