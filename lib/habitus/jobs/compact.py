"""The tables' files, as readers want them."""

from habitus.jobs.catalogue import JOBS
from habitus.jobs.frame import JobContext
from habitus.jobs.plan import declared_tables


def run(context: JobContext) -> None:
    """Compact every table that is there and that readers filter."""
    tables = declared_tables(context.settings)
    for name in JOBS["compact"].writes:
        if context.lake.exists(tables[name]):
            context.compact(tables[name])
