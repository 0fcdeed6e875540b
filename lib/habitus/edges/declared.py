"""Tables and views as they are declared: made, brought up to date, or refused."""

import time

from pyspark.sql import DataFrame, SparkSession

from habitus.config import LakeSettings
from habitus.edges.catalog import Catalog
from habitus.edges.delta_words import CHECK, CONTRACT, definition, properties_of, view_definition
from habitus.edges.folders import Folder
from habitus.edges.spark_errors import SPARK_ERRORS, is_conflict
from habitus.errors import InputError
from habitus.table import Table, View

# Seconds between looks for a table that another run is making, and how often to look.
_MOMENT = 0.5
_LOOKS = 20


class DeclaredTables(Catalog):
    """The tables of one lake, none of which is other than its declaration.

    Args:
        spark: The running session.
        settings: Where the tables are.
    """

    def __init__(self, spark: SparkSession, settings: LakeSettings) -> None:
        super().__init__(spark, settings)
        self._created: set[str] = set()

    def create(self, table: Table) -> None:
        """Create the table as declared, or bring one that is there up to the declaration.

        Raises:
            InputError: A table of this name has another schema or version of its contract.
        """
        if table.name in self._created:
            return
        if self.exists(table) or not self._is_first_to_build(table):
            here = self._properties(table)
            self._refuse_contract(table, here)
            self._refuse_faults(table, self._spark.read.table(self.name(table)))
            self._bring_up_to_date(table, here)
        self._created.add(table.name)

    def create_view(self, view: View, select: str) -> None:
        """Make a view in the metastore, or make it anew.

        Args:
            view: Its declaration.
            select: Its query over the tables of this lake.
        """
        self._spark.sql(view_definition("CREATE OR REPLACE VIEW", self.name(view), view, select))

    def _bring_up_to_date(self, table: Table, here: dict[str, str]) -> None:
        for name, value in properties_of(table).items():
            if value != "false" and here.get(name) != value:
                self._spark.sql(
                    f"ALTER TABLE {self.name(table)} SET TBLPROPERTIES ({name} = '{value}')"
                )
        for name, condition in table.checks.items():
            if CHECK + name not in here:
                self._spark.sql(
                    f"ALTER TABLE {self.name(table)} ADD CONSTRAINT {name} CHECK ({condition})"
                )

    def _is_first_to_build(self, table: Table) -> bool:
        """Build the table, or wait for it where another run builds it at the same time."""
        self._clear_unfinished(table)
        try:
            self._build(table, "CREATE TABLE")
        except SPARK_ERRORS as error:
            if not is_conflict(error):
                raise
            for _ in range(_LOOKS):
                if self.exists(table):
                    return False
                time.sleep(_MOMENT)
            raise InputError(
                self.name(table),
                "the folder holds files, but no table",
                "Move them away, or choose another place for the lake.",
            ) from error
        return True

    def _build(self, table: Table, statement: str) -> None:
        self._spark.sql(definition(statement, self.name(table), table))

    def _clear_unfinished(self, table: Table) -> None:
        # A run killed in its first commit leaves a log without one, which Delta takes for a table
        # when it is to create it, and for none otherwise.
        if self._settings.schema_name is None:
            Folder(self._spark, f"{self.root}/{table.name}/_delta_log").delete_leftovers()

    def _checked(self, table: Table, frame: DataFrame) -> DataFrame:
        self._refuse_faults(table, frame)
        return frame.select(*table.names)

    def _refuse_faults(self, table: Table, frame: DataFrame) -> None:
        if faults := table.faults(frame.schema):
            raise InputError(
                self.name(table),
                f"the schema is not the one declared: {'; '.join(faults)}",
                "Move a table that is not habitus's away, or choose another lake.root.",
            )

    def _refuse_contract(self, table: Table, properties: dict[str, str]) -> None:
        # A table from before there were versions has none, and only its schema to judge it by.
        found = properties.get(CONTRACT, str(table.contract))
        if found != str(table.contract):
            raise InputError(
                self.name(table),
                f"the table keeps version {found} of its contract with readers, this habitus "
                f"version {table.contract}",
                "Run the habitus of that version, or move the table away to have it made anew.",
            )
