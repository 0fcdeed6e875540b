"""The behaviour model's body, trained further on labels to tell anomalous units from others.

As many nets as there are folds of users, each stopped by the users of one fold: what they say of
these makes log-odds of their logits (Platt 1999), and their mean is the score. They are trained in
Keras and asked through ONNX Runtime.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt
import onnxruntime
from pydantic import Field, FiniteFloat, PositiveFloat

from habitus.domain.detectors.base import Reason, Scores, within_sequence
from habitus.domain.detectors.behaviour import BehaviourDetector
from habitus.domain.detectors.behaviour_model import BATCH_POSITIONS
from habitus.domain.detectors.files import MEND, read_about, refuse_another_vocabulary
from habitus.domain.detectors.labelled import Labelled
from habitus.domain.detectors.standard import Standard
from habitus.domain.detectors.summary import Feature, summarise
from habitus.domain.models.batches import by_length, pooled
from habitus.domain.models.onnx_session import session_of
from habitus.domain.models.shape import BehaviourShape
from habitus.domain.units import Floats, Units
from habitus.domain.vocabulary import MISSING, Vocabulary
from habitus.errors import ArtefactError
from habitus.model_settings import FineTuneSettings

_ABOUT, _NET = "fine_tuned.json", "net-{}.onnx"
_CHECKED = 64  # units by which a net is checked once it is exported


class _About(Standard):
    """What the nets were trained on.

    Args:
        shape: The body's.
        nets: How many.
        slope: Log-odds by the mean of their logits.
        constant: Those of a mean of 0.
    """

    shape: BehaviourShape
    nets: int = Field(ge=1)
    slope: PositiveFloat
    constant: FiniteFloat


class FineTunedDetector:
    """What the nets say of units, on average.

    Args:
        vocabulary: What the tokens mean.
        about: What they were trained on.
        nets: Each as ONNX.
    """

    name: ClassVar[str] = "fine_tuned"

    def __init__(self, vocabulary: Vocabulary, about: _About, nets: Sequence[bytes]) -> None:
        self._vocabulary, self._about, self._nets = vocabulary, about, nets
        self._sessions = [
            _session(_NET.format(number), net, about) for number, net in enumerate(nets)
        ]

    @classmethod
    def fit(
        cls,
        labelled: Labelled,
        vocabulary: Vocabulary,
        seed: int,
        body: BehaviourDetector,
        settings: FineTuneSettings,
    ) -> Self:
        """Train the nets.

        Args:
            labelled: Training units and what is known of them.
            vocabulary: What the tokens mean.
            seed: Of the heads' weights, of the order of units and of dropout.
            body: The behaviour model whose body they go on from.
            settings: How they learn.

        Raises:
            TrainingError: Too few units are known to be anomalous, or normal, or nothing tells
                them apart.
            SettingsError: Layers are to be frozen that are not there.
        """
        # Only training needs TensorFlow, which takes seconds to import.
        from habitus.domain.models.classifier import Classifier, Examples
        from habitus.domain.models.onnx_classifier import export

        labelled.refuse_too_few()
        matrix, features = summarise(labelled.units, vocabulary)
        standard = Standard.fit(matrix[~labelled.anomalous], features, vocabulary)
        every = Examples(
            labelled.units,
            _told(standard, matrix),
            labelled.anomalous.astype(np.float32),
            labelled.weights.astype(np.float32),
        )
        classifier = Classifier(body.shape, every.numbers.shape[1], settings, body.weights)
        nets, logits = [], np.empty(len(matrix))
        for number, (fitted, judged) in enumerate(labelled.folds):
            held_out = every.take(judged)
            classifier.train(every.take(fitted), held_out, seed * 100 + number)
            logits[judged] = classifier.logits(held_out)
            nets.append(export(classifier, held_out.take(np.arange(min(_CHECKED, len(judged))))))
        slope, constant = labelled.curve(logits, cls.name)
        told = {"shape": body.shape, "nets": len(nets), "slope": slope, "constant": constant}
        return cls(vocabulary, _About(**dict(standard), **told), nets)

    def score(self, units: Units) -> Scores:
        """[N] log-odds that a unit is anomalous, by the labels trained on."""
        matrix, _ = summarise(units, self._vocabulary)
        return self._log_odds(units, matrix)

    def _log_odds(self, units: Units, matrix: Floats) -> Scores:
        """[N] of units with [N, D] summaries, which need not be their own."""
        numbers = _told(self._about, matrix)
        logits = np.zeros(len(units))
        for chosen, batch in by_length(units, BATCH_POSITIONS, self._about.shape, BATCH_POSITIONS):
            given = pooled(batch, units.lengths[chosen], self._about.shape)._asdict()
            given["numbers"] = numbers[chosen]
            said = [session.run(["logit"], given)[0] for session in self._sessions]
            logits[chosen] = np.mean(said, axis=0, dtype=np.float64)
        return self._about.slope * logits + self._about.constant

    def explain(self, units: Units, count: int) -> list[list[Reason]]:
        """The first `count` numbers and events of each unit that raise its log-odds most.

        One is worth what is lost when the number is the usual one, or nothing is known of the
        event (occlusion: Zeiler and Fergus 2014, "Visualizing and understanding convolutional
        networks", section 4.2). Of an event the field that alone costs most is named.
        """
        matrix, features = summarise(units, self._vocabulary)
        return [
            self._explained(units.take(np.array([row])), matrix[[row]], features, count)
            for row in range(len(units))
        ]

    def _explained(
        self, unit: Units, row: Floats, features: Sequence[Feature], count: int
    ) -> list[Reason]:
        """The reasons of one unit with its summary [1, D]."""
        whole = float(self._log_odds(unit, row)[0])
        of_numbers = whole - self._log_odds(*self._with_usual_numbers(unit, row, features))
        size, width = int(unit.lengths[0]), len(self._about.shape.fields)
        every = np.ones((size, width), dtype=bool)
        of_events = whole - self._log_odds(
            self._occluded(unit, np.arange(size), every), np.repeat(row, size, axis=0)
        )
        strongest = np.argsort(-of_events, kind="stable")[:count]
        each = np.tile(np.eye(width, dtype=bool), (len(strongest), 1))
        of_fields = whole - self._log_odds(
            self._occluded(unit, np.repeat(strongest, width), each),
            np.repeat(row, len(each), axis=0),
        )
        fields = of_fields.reshape(-1, width).argmax(axis=1)
        of_all = of_numbers.clip(min=0).sum() + of_events.clip(min=0).sum()
        share = of_numbers.clip(min=0).sum() / max(of_all, 1e-12)
        reasons = self._about.usual.reasons(row, of_numbers[None], features, count)[0]
        reasons = [replace(one, share=one.share * float(share)) for one in reasons]
        reasons += [
            self._of_event(unit, int(event), int(field), float(of_events[event]), float(of_all))
            for event, field in zip(strongest, fields, strict=True)
            if of_events[event] > 0
        ]
        return sorted(reasons, key=lambda one: -one.share)[:count]

    def _of_event(self, unit: Units, event: int, field: int, worth: float, of_all: float) -> Reason:
        name = self._about.shape.fields[field]
        return Reason(
            event_index=event,
            field=name,
            observed=self._vocabulary.field(name).describe(int(unit.tokens[name][event])),
            expected=(),
            surprise=worth / float(np.log(2)),
            share=worth / of_all,
            against=within_sequence(self._vocabulary.unit_kind, name),
        )

    def _with_usual_numbers(
        self, unit: Units, row: Floats, features: Sequence[Feature]
    ) -> tuple[Units, Floats]:
        """The unit and its summary [1, D] D times, each with another number as it usually is."""
        width = row.shape[1]
        units, matrix = unit.take(np.zeros(width, dtype=np.int64)), np.repeat(row, width, axis=0)
        matrix[np.arange(width), np.arange(width)] = self._about.usual.medians
        names = [feature.name for feature in features]
        context = units.context.copy()
        for name, column in zip(self._about.shape.context, self._about.shape.columns, strict=True):
            context[names.index(name), column] = np.nan  # the mean, to the body
        return replace(units, context=context), matrix

    def _occluded(
        self, unit: Units, events: npt.NDArray[np.int64], hidden: npt.NDArray[np.bool_]
    ) -> Units:
        """The unit K times, in each of which [K, F] fields of one of [K] events are missing."""
        many = unit.take(np.zeros(len(events), dtype=np.int64))
        at = many.offsets[:-1] + events
        tokens = {name: values.copy() for name, values in many.tokens.items()}
        for name, of_field in zip(self._about.shape.fields, hidden.T, strict=True):
            own = tokens[name]
            own[at] = np.where(of_field & (own[at] > MISSING), MISSING, own[at])
        return replace(many, tokens=tokens)

    def to_files(self) -> dict[str, bytes]:
        """The nets as ONNX, what they were trained on as JSON."""
        nets = {_NET.format(number): net for number, net in enumerate(self._nets)}
        return nets | {_ABOUT: self._about.model_dump_json(indent=1).encode()}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], vocabulary: Vocabulary) -> Self:
        """Read what `to_files` wrote.

        Raises:
            ArtefactError: A file is missing, damaged, or made for another vocabulary.
        """
        about = read_about(_About, files, _ABOUT)
        refuse_another_vocabulary(_ABOUT, about.usual.vocabulary_id, vocabulary)
        names = [_NET.format(number) for number in range(about.nets)]
        for name in names:
            if name not in files:
                raise ArtefactError(name, "no such file in the artefact", MEND)
        return cls(vocabulary, about, [files[name] for name in names])


def _told(standard: Standard, matrix: Floats) -> Floats:
    """What the nets see of [N, D] summaries."""
    return np.hstack([standard.drawn_in(matrix), standard.pieces(matrix)])


def _session(name: str, net: bytes, about: _About) -> onnxruntime.InferenceSession:
    """What runs a net.

    Raises:
        ArtefactError: The net is damaged, or one of other numbers.
    """
    try:
        session = session_of(net)
    except Exception as error:  # ONNX Runtime has no one root for what a damaged file raises
        raise ArtefactError(name, f"not readable: {error}", MEND) from error
    widths = {one.name: one.shape[-1] for one in session.get_inputs()}
    if widths.get("numbers") != about.width:
        problem = f"a net of {widths.get('numbers')} numbers, not of {about.width}"
        raise ArtefactError(name, problem, MEND)
    return session
