"""The views that BI tools read: in the metastore, and as SQL for those who read the tables."""

from collections.abc import Iterator

from habitus.edges.delta_words import view_definition
from habitus.jobs.frame import JobContext
from habitus.table import View
from habitus.tables import ANOMALIES, CASES, FLAG_DAYS
from habitus.views import VIEWS

_TABLES = (ANOMALIES, FLAG_DAYS, CASES)


def run(context: JobContext) -> None:
    """Make the views, or make them anew, and write their SQL for Spark and for DuckDB."""
    with context.reporter.step("make views"):
        # Who has no cases yet can ask for the users at risk nevertheless.
        for table in _TABLES:
            context.lake.create(table)
        places = [context.artefacts.write_file(*file) for file in _files(context)]
        if context.settings.lake.schema_name is not None:
            for view in VIEWS:
                context.lake.create_view(view, _select(context, view))
    for line in (*preview(context), *(f"  written: {place}" for place in places)):
        context.reporter.say(line.strip())


def preview(context: JobContext) -> Iterator[str]:
    """Say which views of the metastore are made."""
    if context.settings.lake.schema_name is not None:
        yield from (f"  makes view {context.lake.name(view)}" for view in VIEWS)


def _select(context: JobContext, view: View) -> str:
    """The view's query over the tables and views of the metastore."""
    places = {table.name: context.lake.name(table) for table in (*_TABLES, *VIEWS)}
    return view.select.format(explode="explode", **places)


def _files(context: JobContext) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the files: scripts that make all views for one session."""
    views = {view.name: view.name for view in VIEWS}
    spark = {table.name: context.lake.name(table) for table in _TABLES}
    folders = {table.name: context.lake.location(table).replace("'", "''") for table in _TABLES}
    duckdb = {name: f"delta_scan('{folder}')" for name, folder in folders.items()}
    scripts = {
        "spark": [
            view_definition(
                "CREATE OR REPLACE TEMPORARY VIEW",
                view.name,
                view,
                view.select.format(explode="explode", **spark, **views),
            )
            for view in VIEWS
        ],
        "duckdb": [
            f"CREATE OR REPLACE VIEW {view.name} AS\n"
            + view.select.format(explode="unnest", **duckdb, **views)
            for view in VIEWS
        ],
    }
    for name, statements in scripts.items():
        yield f"views/{name}.sql", "\n".join(f"{one.strip()};\n" for one in statements).encode()
