"""Files beside the tables: model artefacts, vocabularies, reports.

A file appears whole or not at all: an object store puts it at once, elsewhere it is written aside,
then renamed (on HDFS one that is replaced is away for a moment). A folder of files counts only once
its manifest, written last, names every file with its checksum, or with none where the file was
revised. What a manifest names is read only if it is a file of a kind that training writes, and
nothing else may lie beside it: no code has a place there.
"""

import hashlib
import json
import re
import uuid
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
from pyarrow import fs
from pydantic import TypeAdapter, ValidationError

from habitus.domain.detectors.files import read_about
from habitus.domain.vocabulary import Vocabulary
from habitus.edges.promotions import Promotion, next_name, promoted
from habitus.errors import ArtefactError, SettingsError

_MANIFEST = "manifest.json"
_CURRENT = "current.json"
_PROMOTIONS = "promotions"
# What is not yet written to its end, and nobody reads.
_PART = ".part"
# What pyarrow calls those that show a file only once all of it is there, and can rename none.
_OBJECT_STORES = ("s3", "gcs")
# In place of the checksum of a page for people that was written anew.
_REVISED, _PAGE = "", ".md"
# Plain names, of a member's folder and a file: nothing hidden, and no way out of the folder.
_PLAIN = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
_WRITTEN = re.compile(rf"({_PLAIN}/)*{_PLAIN}\.(json|npz|onnx|txt|md)")
_Content = TypeVar("_Content")
_TEXTS = TypeAdapter(dict[str, str])
_PROMOTION = TypeAdapter(Promotion)
_RESTORE = "Restore the file, or delete the model's folder and train again."


class ArtefactStore:
    """The files of one lake.

    Args:
        root: Folder or URI of the lake, anything pyarrow reaches.

    Raises:
        SettingsError: It reaches no such URI.
    """

    def __init__(self, root: str) -> None:
        self.root = absolute(root)
        try:
            self._files, self._base = fs.FileSystem.from_uri(outside_hadoop(self.root))
        except pa.ArrowInvalid as error:
            raise SettingsError(
                "lake.root",
                f"{root} is no place that models can be kept in ({error})",
                "Give a folder, or a URI of file, hdfs, s3 (s3a), gs or viewfs.",
            ) from error

    def write_file(self, name: str, content: bytes) -> str:
        """Write one file under the root and return its full name."""
        path = f"{self._base}/{name}"
        self._files.create_dir(path.rpartition("/")[0], recursive=True)
        # Under a name of its own: another run may write the same file.
        at_once = self._files.type_name in _OBJECT_STORES
        aside = path if at_once else f"{path}.{uuid.uuid4().hex}{_PART}"
        with self._files.open_output_stream(aside) as stream:
            stream.write(content)
        if not at_once:
            self._files.move(aside, path)
        return f"{self.root}/{name}"

    def read_file(self, name: str) -> bytes:
        """Read one file under the root.

        Raises:
            ArtefactError: There is no such file.
        """
        try:
            with self._files.open_input_stream(f"{self._base}/{name}") as stream:
                content: bytes = stream.read()
                return content
        except FileNotFoundError as error:
            raise ArtefactError(
                f"{self.root}/{name}", "no such file", "Run the job that writes it first."
            ) from error

    def delete(self, name: str) -> None:
        """Delete one folder under the root, if it is there."""
        if self._files.get_file_info(f"{self._base}/{name}").type != fs.FileType.NotFound:
            self._files.delete_dir(f"{self._base}/{name}")

    def delete_abandoned(self, folder: str, beginning: str, since: datetime) -> None:
        """Delete the folders within one whose name begins so and in which nothing is that new."""
        within = f"{self._base}/{folder}/"
        selector = fs.FileSelector(within, allow_not_found=True, recursive=True)
        written: dict[str, datetime] = {}
        for file in self._files.get_file_info(selector):
            name = file.path.removeprefix(within).partition("/")[0]
            if file.type == fs.FileType.File and name.startswith(beginning):
                written[name] = max(file.mtime, written.get(name, file.mtime))
        for name, last in written.items():
            if last < since:
                self.delete(f"{folder}/{name}")

    def write(self, model_id: str, files: Mapping[str, bytes]) -> None:
        """Write a model's files; it exists once this returns."""
        for name, content in files.items():
            self.write_file(f"models/{model_id}/{name}", content)
        manifest = {name: _checksum(content) for name, content in sorted(files.items())}
        self.write_file(f"models/{model_id}/{_MANIFEST}", _json(manifest))

    def exists(self, model_id: str) -> bool:
        """Whether the model was written to its end."""
        return self._holds(f"{model_id}/{_MANIFEST}")

    def read(self, model_id: str) -> dict[str, bytes]:
        """Read a model's files and check them against the manifest.

        Raises:
            ArtefactError: The model is not there, a file is missing or changed, or there is one
                that training does not write.
        """
        place = f"{self.root}/models/{model_id}"
        if not re.fullmatch(_PLAIN, model_id) or not self.exists(model_id):
            raise ArtefactError(place, "no such model", "Run `habitus train` first.")
        manifest = self._read(f"models/{model_id}/{_MANIFEST}", _TEXTS)
        _refuse_others(place, manifest, self._names(f"models/{model_id}"))
        files = {}
        for name, checksum in manifest.items():
            files[name] = self.read_file(f"models/{model_id}/{name}")
            if not _fits(name, files[name], checksum):
                problem = "its content is not what training wrote"
                raise ArtefactError(f"{place}/{name}", problem, _RESTORE)
        return files

    def revise(self, model_id: str, name: str, content: bytes) -> None:
        """Write one of a model's files anew: one for people, as its content is not checked then.

        Whenever this is killed, the model can be read.
        """
        manifest = self._read(f"models/{model_id}/{_MANIFEST}", _TEXTS)
        if manifest.get(name) != _REVISED:
            self.write_file(f"models/{model_id}/{_MANIFEST}", _json(manifest | {name: _REVISED}))
        self.write_file(f"models/{model_id}/{name}", content)

    def _names(self, folder: str) -> list[str]:
        """The files in a folder and those below it, in order, but for half-written ones."""
        inside = fs.FileSelector(f"{self._base}/{folder}", allow_not_found=True, recursive=True)
        found = self._files.get_file_info(inside)
        names = [one.path.rpartition(f"{folder}/")[2] for one in found if one.is_file]
        return sorted(name for name in names if not name.endswith(_PART))

    def model_ids(self) -> list[str]:
        """The models that were written to their end, in order."""
        folder = fs.FileSelector(f"{self._base}/models", allow_not_found=True)
        found = self._files.get_file_info(folder)
        names = [one.base_name for one in found if one.type == fs.FileType.Directory]
        return sorted(name for name in names if self.exists(name))

    def promote(
        self, detector: str, model_id: str, *, job: str, run_id: str, at: datetime
    ) -> str | None:
        """Make a model the one of its detector that scores.

        Args:
            detector: The detector.
            model_id: The model.
            job: The job that does it.
            run_id: Its run.
            at: When that began.

        Returns:
            The one that scored before: perhaps the same, which changes nothing; or none.
        """
        before = self.current().get(detector)
        if before != model_id:
            names = self._names(f"models/{_PROMOTIONS}/{detector}")
            # One that a killed run left here is this one.
            if not names or promoted(names[-1]) != model_id:
                new = Promotion(
                    model_id=model_id, instead_of=before, job=job, run_id=run_id, promoted_at=at
                )
                name = f"models/{_PROMOTIONS}/{detector}/{next_name(names, model_id)}"
                self.write_file(name, new.model_dump_json(indent=1).encode())
            self._tell_current()
        return before

    def promotions(self, detector: str) -> tuple[Promotion, ...]:
        """What was made the detector's scoring model, the first first."""
        folder = f"models/{_PROMOTIONS}/{detector}"
        return tuple(self._read(f"{folder}/{name}", _PROMOTION) for name in self._names(folder))

    def _tell_current(self) -> None:
        """Bring the file that names the scoring models up to date with all promotions."""
        while (now := self.current() | self._promoted()) != self.current():
            # Of runs that do so at once, the last one that writes sees what the others promoted.
            self.write_file(f"models/{_CURRENT}", _json(now))

    def _promoted(self) -> dict[str, str]:
        """Detector -> the model promoted last, by the names of files alone."""
        parts = (name.partition("/") for name in self._names(f"models/{_PROMOTIONS}"))
        return {detector: promoted(name) for detector, _, name in parts}

    def current(self) -> dict[str, str]:
        """The scoring model of each detector; empty before any training."""
        return self._read(f"models/{_CURRENT}", _TEXTS) if self._holds(_CURRENT) else {}

    def write_vocabulary(self, vocabulary: Vocabulary) -> None:
        """Write a vocabulary under its id."""
        name = f"vocabularies/{vocabulary.vocabulary_id}.json"
        self.write_file(name, vocabulary.model_dump_json(indent=1).encode())

    def read_vocabulary(self, vocabulary_id: str) -> Vocabulary:
        """Read the vocabulary with this id.

        Raises:
            ArtefactError: There is no such file, or it is damaged.
        """
        name = f"vocabularies/{vocabulary_id}.json"
        place, content = f"{self.root}/{name}", self.read_file(name)
        try:
            return read_about(Vocabulary, {place: content}, place)
        except ArtefactError as error:
            mend = "Restore the file, or run `habitus features` again."
            raise ArtefactError(place, error.problem, mend) from error

    def _holds(self, name: str) -> bool:
        """Whether there is a file of this name among the models."""
        info = self._files.get_file_info(f"{self._base}/models/{name}")
        return bool(info.type == fs.FileType.File)

    def _read(self, name: str, kind: TypeAdapter[_Content]) -> _Content:
        content = self.read_file(name)
        try:
            return kind.validate_json(content)
        except ValidationError as error:
            raise ArtefactError(
                f"{self.root}/{name}",
                f"not readable: {error.errors()[0]['msg']}",
                "Restore it or train again.",
            ) from error


def absolute(root: str) -> str:
    """The root as a URI, or as an absolute path when it is a local folder."""
    return root.rstrip("/") if "://" in root else str(Path(root).absolute())


def outside_hadoop(root: str) -> str:
    """The root in the words of pyarrow, delta-rs and DuckDB, who call s3 what Hadoop calls s3a."""
    return re.sub("^s3[an]://", "s3://", root)


def _refuse_others(place: str, manifest: Iterable[str], there: Iterable[str]) -> None:
    """Refuse names in a manifest that training does not write, and files that it does not list."""
    for name in manifest:
        if not _WRITTEN.fullmatch(name):
            problem = f"it lists {name!r}, which is no name of a file that training writes"
            raise ArtefactError(f"{place}/{_MANIFEST}", problem, _RESTORE)
    for name in sorted(set(there) - {*manifest, _MANIFEST}):
        raise ArtefactError(
            f"{place}/{name}",
            "training did not write this file",
            "See who put it there and delete it.",
        )


def _fits(name: str, content: bytes, checksum: str) -> bool:
    """Whether a file is as it was written, or a page that was revised since."""
    return checksum == _checksum(content) or (checksum == _REVISED and name.endswith(_PAGE))


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _json(values: Mapping[str, str]) -> bytes:
    return json.dumps(values, indent=1, sort_keys=True).encode()
