"""What models are trained on: one version of the sequences, by parts of the time split."""

from functools import cached_property
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from habitus.domain.calibration import FEWEST, Names
from habitus.domain.detectors.labelled import Labelled
from habitus.domain.labelling import unit_labels, unmatched_labels
from habitus.domain.models.card import LabelsUsed
from habitus.domain.parts import PARTS, contents, fingerprint, sample, with_part
from habitus.domain.scoring import segment_names, unscorable
from habitus.domain.selection import constant_features
from habitus.domain.totals import totals
from habitus.domain.units import Units
from habitus.errors import InputError, TrainingError
from habitus.jobs.frame import JobContext
from habitus.jobs.segments import with_segments
from habitus.tables import LABELS, sequences

TRAINING, VALIDATION, CALIBRATION = PARTS
_UNITS = ("amounts", "gaps", "context", "scored_from", "closed")


class TrainingData:
    """One version of the sequences: its vocabulary, the files of each part, and samples.

    Raises:
        InputError: The table has no row.
    """

    def __init__(self, context: JobContext) -> None:
        self._context = context
        self.table = sequences(context.settings.sequences.fields)
        frame = context.read(self.table)
        self.version = context.inputs[self.table.name]
        known = frame.select("vocabulary_id").first()
        if known is None:
            raise InputError(
                context.lake.name(self.table), "there is no row", "Run `habitus features` first."
            )
        self.vocabulary = context.artefacts.read_vocabulary(known["vocabulary_id"])
        self._frame = frame
        self._parted = with_part(frame, self.vocabulary.split)
        with context.reporter.step("look the sequences over"):
            held = contents(self._parted).collect()  # a row per file and part
            paths = {_base(path): path for path in context.lake.files(self.table, self.version)}
        self.fingerprint = fingerprint(held)
        self.files: dict[str, tuple[tuple[str, int], ...]] = {
            part: tuple(
                sorted((paths[_base(r["file"])], r["units"]) for r in held if r["part"] == part)
            )
            for part in PARTS
        }
        self.units = {part: sum(number for _, number in self.files[part]) for part in PARTS}
        context.rows_in |= {f"{part} units": number for part, number in self.units.items()}

    def refuse_too_few(self) -> None:
        """Stop before anything is trained on next to nothing."""
        least = self._context.settings.train.minimum_units
        place = self._context.lake.name(self.table)
        found = ", ".join(f"{number:,} {part}" for part, number in self.units.items())
        if self.units[TRAINING] < least:
            raise TrainingError(
                place,
                f"{self.units[TRAINING]:,} training units, fewer than train.minimum_units={least}"
                f" ({found})",
                "Ingest more, move split.train_until, or lower train.minimum_units.",
            )
        for part, needed in ((VALIDATION, 1), (CALIBRATION, FEWEST)):
            if self.units[part] < needed:
                raise TrainingError(
                    place,
                    f"{part} needs at least {needed} unit{'s' * (needed > 1)} ({found})",
                    "Move split.train_until, split.validation_until or split.calibration_share.",
                )

    @cached_property
    def training(self) -> Units:
        """A sample of the training units."""
        return Units.from_arrow(self._told(self._sample(TRAINING)), self.vocabulary.field_names)

    @property
    def all_training(self) -> DataFrame:
        """All training units: `unit_id`, and what `Units` are read from."""
        trained = self._parted.where(F.col("part") == TRAINING)
        return trained.select("unit_id", *self.vocabulary.field_names, *_UNITS)

    @cached_property
    def labels(self) -> LabelsUsed:
        """What was known of the units when the models are first used."""
        known_by = self.vocabulary.split.validation_until
        trained = F.when(F.col("part") == TRAINING, F.col("unit_id"))
        found = totals(
            self._known,
            F.count_distinct(trained).alias("units"),
            F.bit_xor(F.xxhash64("unit_id", "kind")).alias("hash"),
        )
        unused = self._unused_labels()
        return LabelsUsed(
            known_by=known_by.isoformat(),
            anomalous=found["units"],
            fingerprint=f"{(found['hash'] or 0) % 2**64:016x}",
            later=unused["later"],
            unmatched=unused["unmatched"],
        )

    def _unused_labels(self) -> dict[str, int]:
        """How many labels were known too late to learn from, or name no unit; each is told."""
        labels = self._context.read_or_empty(LABELS)
        known_by = self.vocabulary.split.validation_until
        in_time = F.col("known_at") <= F.lit(known_by)
        unused = {
            "later": labels.where(~in_time).count(),
            "unmatched": unmatched_labels(labels.where(in_time), self._frame).count(),
        }
        for name, meaning in (
            ("later", f"became known after {known_by.isoformat()} and are not learned from"),
            ("unmatched", "name no unit of `sequences`, nor an event or user of one"),
        ):
            self._context.rows_in[f"{name} labels"] = unused[name]
            if unused[name]:
                self._context.reporter.say(f"{unused[name]:,} labels {meaning}")
        return unused

    @cached_property
    def constant(self) -> tuple[str, ...]:
        """The features that are the same of all training units that are sampled; they are told."""
        found = constant_features(self.training.context, self.vocabulary.context)
        self._context.rows_in["constant features"] = len(found)
        if found:
            self._context.reporter.say(f"features that are the same throughout: {', '.join(found)}")
        return found

    @cached_property
    def labelled(self) -> Labelled:
        """The training units that are known to be anomalous, and a sample of the others.

        There may be `train.sample` of either kind.
        """
        return self._labelled(TRAINING, self.labels.anomalous)

    @cached_property
    def validation(self) -> Labelled:
        """The same of validation units, for what is learned when the models are there."""
        known = self._known.where(F.col("part") == VALIDATION).select("unit_id").distinct()
        return self._labelled(VALIDATION, known.count())

    def _labelled(self, part: str, anomalous: int) -> Labelled:
        """Of a part's units, so many of which are known to be anomalous."""
        most, seed = self._context.settings.train.sample, self._context.settings.seed
        of_part = self._known.where(F.col("part") == part)
        known = of_part.select("unit_id", F.lit(True).alias("anomalous")).distinct()
        told = self._parted.join(known, "unit_id", "left").fillna({"anomalous": False})
        normal = self.units[part] - anomalous
        chosen = sample(told.where("anomalous"), part, anomalous, most, seed).unionByName(
            sample(told.where("not anomalous"), part, normal, most, seed)
        )
        fields = self.vocabulary.field_names
        found = chosen.select(
            *fields, *_UNITS, "anomalous", F.xxhash64("user_id").alias("user")
        ).toArrow()
        is_anomalous = found.column("anomalous").to_numpy()
        stands_for = [max(1.0, normal / most), max(1.0, anomalous / most)]
        return Labelled(
            units=Units.from_arrow(found, fields),
            anomalous=is_anomalous,
            weights=np.asarray(stands_for)[is_anomalous.astype(int)],
            users=found.column("user").to_numpy(),
        )

    @cached_property
    def _known(self) -> DataFrame:
        """`unit_id`, `kind` and `part` of the units known to be anomalous."""
        labels = self._context.read_or_empty(LABELS)
        found = unit_labels(labels, self._parted, self.vocabulary.split.validation_until)
        # Few rows from many, that several models ask for.
        return found.join(self._parted.select("unit_id", "part"), "unit_id").localCheckpoint()

    @cached_property
    def calibration(self) -> tuple[Units, Names]:
        """A sample of the calibration units, and the segments of each, [n, L]."""
        return self._segmented(self._sample(CALIBRATION))

    @cached_property
    def normal_calibration(self) -> tuple[Units, Names]:
        """The same without units that are known to be anomalous.

        A model that has learned what is anomalous sets them before all others, where they would
        stand for normal ones.
        """
        known = self._known.select("unit_id").distinct()
        return self._segmented(self._sample(CALIBRATION).join(known, "unit_id", "left_anti"))

    def _sample(self, part: str) -> DataFrame:
        settings = self._context.settings
        return sample(self._parted, part, self.units[part], settings.train.sample, settings.seed)

    def _segmented(self, chosen: DataFrame) -> tuple[Units, Names]:
        """Those that scoring gives a p-value: what it cannot score is compared with nothing."""
        found = self._told(with_segments(self._context, chosen, self.vocabulary), "segment")
        units = Units.from_arrow(found, self.vocabulary.field_names)
        kept = np.flatnonzero(unscorable(units) == 0)
        return units.take(kept), segment_names(found.column("segment"))[kept]

    def _told(self, chosen: DataFrame, *more: str) -> pa.Table:
        """What `Units` are read from, in the order of their ids."""
        told = chosen.orderBy("unit_id").select(*self.vocabulary.field_names, *_UNITS, *more)
        return told.toArrow()


def _base(path: str) -> str:
    """The name by which Spark's and delta-rs's spelling of a path agree; unique in a table."""
    return unquote(path).rpartition("/")[2]
