"""One root for every error that habitus raises on purpose."""

import difflib
from collections.abc import Iterable
from typing import ClassVar


class HabitusError(Exception):
    """A failure a person can act on: where it is, what is wrong there, and how to mend it.

    Args:
        place: The file, table, setting or argument at fault.
        problem: What is wrong, with the offending value.
        mend: What to do about it, as a sentence.
    """

    exit_status: ClassVar[int] = 1

    def __init__(self, place: str, problem: str, mend: str) -> None:
        self.place = place
        self.problem = problem
        self.mend = mend
        super().__init__(f"{place}: {problem}. {mend}")

    def __reduce__(self) -> tuple[type["HabitusError"], tuple[str, str, str]]:
        return type(self), (self.place, self.problem, self.mend)


class SettingsError(HabitusError):
    """Settings, arguments or a source mapping that cannot be used."""

    exit_status: ClassVar[int] = 2


class InputError(HabitusError):
    """Source files or tables that are missing, unreadable, empty or of another shape."""


class ConflictError(HabitusError):
    """A table that another run changed at the same time."""


class ClusterError(HabitusError):
    """Machines, disks or memory of Spark that gave out."""


class TrainingError(HabitusError):
    """Training that cannot start or cannot go on."""


class ArtefactError(HabitusError):
    """A model artefact that is missing, damaged or made for other data."""


def meant(name: str, known: Iterable[str]) -> str | None:
    """The known name that is perhaps meant; none when none is near."""
    return next(iter(difflib.get_close_matches(name, sorted(known), n=1)), None)


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which known name is meant, or list them all when none is near."""
    known = sorted(known)
    close = meant(name, known)
    return f"Did you mean {close!r}?" if close else f"Known names: {', '.join(known)}."
