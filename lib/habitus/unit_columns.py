"""The columns of all tables that are of units."""

from habitus.table import Column

KIND = Column("unit_kind", "string", "What was judged: event, session or user.", required=True)
UNIT = Column("unit_id", "string", "Id of the session or event judged.", required=True)
USER = Column("user_id", "string", "Whose behaviour it is.", required=True)
# What tells a unit from others, in every table that is of units.
UNIT_KEY = [KIND.name, UNIT.name]
KINDS = {"unit_kind_is_known": "unit_kind in ('event', 'session', 'user')"}
