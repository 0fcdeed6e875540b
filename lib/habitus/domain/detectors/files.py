"""The files of a detector's artefact: what each detector checks before it believes them."""

import io
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ValidationError

from habitus.domain.vocabulary import Vocabulary
from habitus.errors import ArtefactError

# There where a detector does without some features, and which these are.
SELECTION = "selection.json"
MEND = "Restore the file, or train again."
_About = TypeVar("_About", bound=BaseModel)


def read_about(
    kind: type[_About], files: Mapping[str, bytes], name: str, others: Sequence[str] = ()
) -> _About:
    """Read the JSON file that tells what a detector was fitted on.

    Args:
        kind: What the file holds.
        files: The artefact's files by name.
        name: The file's name.
        others: Files that must be there beside it.

    Raises:
        ArtefactError: A file is missing, or this one does not fit.
    """
    for needed in (*others, name):
        if needed not in files:
            raise ArtefactError(needed, "no such file in the artefact", MEND)
    try:
        return kind.model_validate_json(files[name])
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"]))
        raise ArtefactError(name, f"{where} {fault['msg']}".strip(), MEND) from error


def arrays_file(arrays: Mapping[str, npt.NDArray[Any]], compressed: bool = False) -> bytes:
    """The content of a file that holds arrays by name."""
    stream = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(stream, **arrays)
    return stream.getvalue()


def read_arrays(files: Mapping[str, bytes], name: str) -> dict[str, npt.NDArray[Any]]:
    """Read the arrays of a file; nothing that it holds is ever run.

    Args:
        files: The artefact's files by name.
        name: The file's name; it must be there.

    Raises:
        ArtefactError: The file is damaged, or holds something else.
    """
    try:
        with np.load(io.BytesIO(files[name]), allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except (
        Exception
    ) as error:  # numpy, zip and zlib have no one root for what a damaged file raises
        raise ArtefactError(name, f"not readable: {error}", MEND) from error


def refuse_another_vocabulary(name: str, made_for: str, vocabulary: Vocabulary) -> None:
    """Make sure that a detector was fitted on units of this vocabulary.

    Raises:
        ArtefactError: It was made for another; `name` is the file that says so.
    """
    if made_for != vocabulary.vocabulary_id:
        problem = f"made for vocabulary {made_for}, not {vocabulary.vocabulary_id}"
        raise ArtefactError(name, problem, "Train again after the features job.")
