"""Files beside the tables: model artefacts, vocabularies, reports.

A file appears whole or not at all on a local disk (written aside, then renamed) and on object
stores (a put is atomic). A folder of files counts only once its manifest, written last, names
every file with its checksum.
"""

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from pyarrow import fs

from habitus.domain.detectors.files import read_about
from habitus.domain.vocabulary import Vocabulary
from habitus.errors import ArtefactError

_MANIFEST = "manifest.json"
_CURRENT = "current.json"


class ArtefactStore:
    """The files of one lake.

    Args:
        root: Folder or URI of the lake, anything pyarrow reaches.
    """

    def __init__(self, root: str) -> None:
        self.root = absolute(root)
        self._files, self._base = fs.FileSystem.from_uri(self.root)

    def write_file(self, name: str, content: bytes) -> str:
        """Write one file under the root and return its full name."""
        path = f"{self._base}/{name}"
        self._files.create_dir(path.rpartition("/")[0], recursive=True)
        local = isinstance(self._files, fs.LocalFileSystem)
        aside = f"{path}.part" if local else path
        with self._files.open_output_stream(aside) as stream:
            stream.write(content)
        if local:
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
        info = self._files.get_file_info(f"{self._base}/models/{model_id}/{_MANIFEST}")
        return bool(info.type == fs.FileType.File)

    def read(self, model_id: str) -> dict[str, bytes]:
        """Read a model's files and check them against the manifest.

        Raises:
            ArtefactError: The model is not there, or a file is missing or changed.
        """
        place = f"{self.root}/models/{model_id}"
        if not self.exists(model_id):
            raise ArtefactError(place, "no such model", "Run `habitus train` first.")
        files = {}
        for name, checksum in self._read_json(f"models/{model_id}/{_MANIFEST}").items():
            files[name] = self.read_file(f"models/{model_id}/{name}")
            if _checksum(files[name]) != checksum:
                raise ArtefactError(
                    f"{place}/{name}",
                    "its content is not what training wrote",
                    "Restore the file, or delete the model's folder and train again.",
                )
        return files

    def set_current(self, detector: str, model_id: str) -> None:
        """Make a model the one of its detector that scores."""
        self.write_file(f"models/{_CURRENT}", _json(self.current() | {detector: model_id}))

    def current(self) -> dict[str, str]:
        """The scoring model of each detector; empty before any training."""
        try:
            return self._read_json(f"models/{_CURRENT}")
        except ArtefactError as error:
            if error.problem == "no such file":
                return {}
            raise

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

    def _read_json(self, name: str) -> dict[str, str]:
        content = self.read_file(name)
        try:
            values: dict[str, str] = json.loads(content)
        except ValueError as error:
            raise ArtefactError(
                f"{self.root}/{name}", "not readable as JSON", "Restore it or train again."
            ) from error
        return values


def absolute(root: str) -> str:
    """The root as a URI, or as an absolute path when it is a local folder."""
    return root.rstrip("/") if "://" in root else str(Path(root).absolute())


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _json(values: Mapping[str, str]) -> bytes:
    return json.dumps(values, indent=1, sort_keys=True).encode()
