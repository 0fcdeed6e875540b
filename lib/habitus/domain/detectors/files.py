"""The files of a detector's artefact: what each detector checks before it believes them."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

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


def refuse_another_vocabulary(name: str, made_for: str, vocabulary: Vocabulary) -> None:
    """Make sure that a detector was fitted on units of this vocabulary.

    Raises:
        ArtefactError: It was made for another; `name` is the file that says so.
    """
    if made_for != vocabulary.vocabulary_id:
        problem = f"made for vocabulary {made_for}, not {vocabulary.vocabulary_id}"
        raise ArtefactError(name, problem, "Train again after the features job.")
