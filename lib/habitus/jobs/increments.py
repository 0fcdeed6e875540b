"""What a table was made from, as each of its commits tells, and what is new since then."""

from datetime import datetime

from pydantic import ValidationError
from pyspark.sql import DataFrame

from habitus.errors import InputError
from habitus.jobs.frame import JobContext
from habitus.setting_types import Frozen
from habitus.table import Table


class Source(Frozen):
    """A version of a table; its identity tells it from another one made at its place."""

    identity: str
    version: int


class Made(Frozen):
    """What a table was made from.

    Attributes:
        sources: The tables, by name.
        rule: How it was made; what was made by another rule is made anew.
        now: Time up to which events were known, where it mattered.
        run: The run that made it.
        based_on: The version of the table itself that was brought up to date; None: all is new.
    """

    sources: dict[str, Source]
    rule: str
    now: datetime | None = None
    run: str
    based_on: int | None = None


def source(context: JobContext, table: Table) -> Source:
    """The version of a table that this run reads."""
    return Source(identity=context.lake.identity(table), version=context.inputs[table.name])


def made_before(context: JobContext, table: Table, rule: str) -> Made | None:
    """What a table that is there was made from; None where it is to be made anew."""
    if context.settings.updates.rebuild or not context.lake.exists(table):
        return None
    note, read = context.lake.note(table)
    try:
        made = None if note is None else Made.model_validate_json(note)
    except ValidationError:
        return None
    if made is None or made.rule != rule or made.based_on not in (None, read):
        return None
    return made


def changes_since(
    context: JobContext, made: Made | None, table: Table, *, only_added: bool = False
) -> DataFrame | None:
    """What changed in a table since another was made from it, see `Lake.changes`.

    Returns:
        The changes; None where all is to be made anew, because nothing was made before or the
        table cannot tell.

    Raises:
        InputError: It cannot tell, and settings say to refuse then.
    """
    if made is None:
        return None
    before, now = made.sources.get(table.name), source(context, table)
    changes = None
    if before is not None and before.identity == now.identity and before.version <= now.version:
        changes = context.lake.changes(table, before.version, now.version, only_added=only_added)
    if changes is None:
        since = "" if before is None else f" since version {before.version}"
        problem = f"the table cannot tell what was added{since}"
        if context.settings.updates.lost_history == "refuse":
            raise InputError(
                context.lake.name(table), problem, "Set updates.rebuild=true to make all anew."
            )
        context.reporter.say(f"{table.name}: {problem}; all is made anew")
    return changes
