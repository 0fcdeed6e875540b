"""Which models were made the ones that score, a file for each.

None is ever written again, so that runs which promote at once lose nothing of each other's. Their
names sort in the order in which they were made; of two with the same number, made at once, one is
the later everywhere.
"""

from collections.abc import Sequence
from datetime import datetime

from pydantic import BaseModel, ConfigDict


class Promotion(BaseModel):
    """A model was made the one of its detector that scores.

    Args:
        model_id: The model.
        instead_of: The one that scored before; none if it was the first.
        job: The job that did it; `runs` tells the rest by `run_id`.
        run_id: That run.
        promoted_at: When that began.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model_id: str
    instead_of: str | None
    job: str
    run_id: str
    promoted_at: datetime


def next_name(names: Sequence[str], model_id: str) -> str:
    """The name of the file that says that a model was promoted after all of a detector's others."""
    number = int(names[-1].partition(".")[0]) + 1 if names else 1
    return f"{number:06d}.{model_id}.json"


def promoted(name: str) -> str:
    """The model that the file of this name says was promoted."""
    return name.partition(".")[2].removesuffix(".json")
