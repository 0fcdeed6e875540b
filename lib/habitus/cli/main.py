"""`habitus <job>`, and the same behind every file in jobs/.

Exit status: 0 done, 1 the job failed, 2 bad settings or arguments.
"""

import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import click
import yaml
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from habitus.cli.progress import ConsoleReporter, libraries_to_log
from habitus.config import Settings
from habitus.edges.spark import start_spark
from habitus.edges.spark_errors import spark_says
from habitus.edges.spark_progress import stage_progress
from habitus.errors import HabitusError
from habitus.jobs.catalogue import CHAIN, JOBS
from habitus.jobs.frame import Arguments, JobContext, run_job
from habitus.loading import describe, load_settings
from habitus.table import reference
from habitus.views import VIEWS

_COMMON = (
    click.option("--env", "environment", help="Read conf/ENV.yaml over conf/base.yaml."),
    click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Set one value."),
    click.option("--dry-run", is_flag=True, help="Show settings, inputs and outputs; do nothing."),
    click.option("--verbose", is_flag=True, help="Show stack traces and the libraries' logs."),
)
_SOURCE = (
    click.option("--source", help="Source mapping, a YAML file; ingest needs it."),
    click.option("--input", "input_", help="Path or URI of the source's files; ingest needs it."),
)
_MODEL = click.argument("model", metavar="MODEL_ID")
_DETECTORS = click.option(
    "--detectors", metavar="NAME,...", help="The same as --set detectors=[NAME,...]."
)
# ingest always reads a source, feedback may.
_OPTIONS: dict[str, tuple[Callable[..., Any], ...]] = {
    "ingest": _SOURCE,
    "feedback": _SOURCE,
    "promote": (_MODEL,),
    **dict.fromkeys(("train", "score", "evaluate"), (_DETECTORS,)),
}
# What `habitus run` may begin with, in order.
_WHOLE = ("simulate", *CHAIN)
_FROM = click.option(
    "--from",
    "first",
    type=click.Choice(_WHOLE),
    default=CHAIN[0],
    show_default=True,
    help="Begin with this job.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def habitus() -> None:
    """Find users whose behaviour does not fit."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    habitus.main(args=None if arguments is None else list(arguments), prog_name="habitus")


def _command(name: str, summary: str, options: Sequence[Callable[..., Any]]) -> None:
    def command(
        environment: str | None,
        overrides: tuple[str, ...],
        dry_run: bool,
        verbose: bool,
        source: str | None = None,
        input_: str | None = None,
        first: str | None = None,
        model: str | None = None,
        detectors: str | None = None,
    ) -> None:
        if detectors is not None:
            overrides = (*overrides, f"detectors=[{detectors}]")
        jobs = [name] if first is None else _WHOLE[_WHOLE.index(first) :]
        if "ingest" in jobs:
            for option, value in (("--source", source), ("--input", input_)):
                if value is None:
                    raise click.MissingParameter(param_hint=repr(option), param_type="option")
        given = Arguments(source=source, input=input_, model=model)
        sys.exit(_run(name, jobs, given, (environment, overrides), dry_run, verbose))

    decorated: Callable[..., Any] = command
    for option in reversed((*_COMMON, *options)):
        decorated = option(decorated)
    habitus.command(name, help=summary)(decorated)


for _job in JOBS.values():
    _command(_job.name, _job.summary, _OPTIONS.get(_job.name, ()))
_command("run", "Do everything from ingest to report in one go.", (*_SOURCE, _FROM, _DETECTORS))


@habitus.command("settings", help="List every setting with its value and meaning.")
@click.option("--env", "environment", help="Read conf/ENV.yaml over conf/base.yaml.")
def _settings(environment: str | None) -> None:
    table = RichTable("setting", "value", "meaning")
    try:
        for key, value, meaning in describe(load_settings(environment)):
            table.add_row(Text(key), Text(value), Text(meaning))
    except HabitusError as error:
        _refuse(error)
    Console().print(table)


@habitus.command("tables", help="Print the reference of tables and views as Markdown.")
@click.option("--env", "environment", help="Read conf/ENV.yaml over conf/base.yaml.")
def _tables(environment: str | None) -> None:
    from habitus.jobs.plan import declared_tables

    try:
        tables = declared_tables(load_settings(environment)).values()
        click.echo(reference([*tables, *VIEWS]))
    except HabitusError as error:
        _refuse(error)


def _refuse(error: HabitusError) -> NoReturn:
    click.echo(f"habitus: {error}", err=True)
    sys.exit(error.exit_status)


def _run(
    name: str,
    jobs: Sequence[str],
    arguments: Arguments,
    layers: tuple[str | None, tuple[str, ...]],
    dry_run: bool,
    verbose: bool,
) -> int:
    # A log has no width of its own; tables are readable at this one.
    console = Console(width=None if sys.stdout.isatty() else 140)
    with libraries_to_log(name, verbose) as (stderr, log):
        try:
            settings = load_settings(*layers)
            if dry_run:
                _show_plan(jobs, arguments, settings, console, verbose)
            else:
                _run_jobs(jobs, arguments, settings, console, verbose)
        except HabitusError as error:
            if verbose:
                traceback.print_exc()
            print(f"habitus {name}: {error}", file=stderr)
            status = error.exit_status
        except KeyboardInterrupt:
            print(f"habitus {name}: interrupted; run it again to go on", file=stderr)
            status = 1
        except Exception as error:
            traceback.print_exc()
            where = f"The stack trace is in {log}." if log else ""
            print(
                f"habitus {name}: {type(error).__name__}: {spark_says(error)}. {where}", file=stderr
            )
            return 1
        else:
            status = 0
    # Only what nobody foresaw needs its log.
    if log is not None:
        log.unlink()
    return status


def _run_jobs(
    jobs: Sequence[str],
    arguments: Arguments,
    settings: Settings,
    console: Console,
    verbose: bool,
) -> None:
    spark = start_spark(settings.spark, " ".join(jobs), quiet=not verbose)
    reporter = ConsoleReporter(console, lambda: stage_progress(spark))
    for number, name in enumerate(jobs, 1):
        count = f"[{number}/{len(jobs)}] " if len(jobs) > 1 else ""
        reporter.heading(f"{count}{name}: {JOBS[name].summary}")
        run_job(JOBS[name], JobContext(name, settings, spark, reporter, arguments))


def _show_plan(
    jobs: Sequence[str],
    arguments: Arguments,
    settings: Settings,
    console: Console,
    verbose: bool,
) -> None:
    from habitus.jobs.plan import plan

    resolved = settings.model_dump(mode="json", by_alias=True)
    console.print(yaml.safe_dump(resolved, sort_keys=False), highlight=False, markup=False)
    spark = start_spark(settings.spark, "dry run", quiet=not verbose)
    for line in plan(jobs, arguments, settings, spark):
        console.print(line, highlight=False, markup=False)
