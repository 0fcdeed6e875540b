"""Tables and views as they are declared: made, brought up to date, or refused."""

from collections.abc import Iterator
from contextlib import contextmanager

from pyspark.sql import DataFrame, SparkSession

from habitus.config import LakeSettings
from habitus.edges.catalog import Catalog
from habitus.edges.delta_words import CHECK, CONTRACT, definition, properties_of, view_definition
from habitus.edges.folders import Folder
from habitus.edges.spark_errors import SPARK_ERRORS, is_conflict
from habitus.errors import ConflictError, InputError
from habitus.table import Table, View


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
        if not self.exists(table):
            self._clear_unfinished(table)
            # Of two runs that come here at once Delta lets one commit, and tells the other.
            with self._or_conflict(table):
                self._build(table, "CREATE TABLE")
        else:
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

    @contextmanager
    def _or_conflict(self, table: Table) -> Iterator[None]:
        try:
            yield
        except SPARK_ERRORS as error:
            if is_conflict(error):
                raise self._conflict(table) from error
            raise

    def _conflict(self, table: Table) -> ConflictError:
        return ConflictError(
            self.name(table),
            "another run has changed the table at the same time",
            "Run this one again.",
        )

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
