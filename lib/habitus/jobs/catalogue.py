"""All jobs, in the order in which a first run takes them."""

from collections.abc import Callable, Iterator
from importlib import import_module

from habitus.jobs.frame import Job, JobContext


def _lazily(module: str) -> Callable[[JobContext], None]:
    """The job's code, imported when it runs: `ingest` need not wait for TensorFlow."""

    def run(context: JobContext) -> None:
        import_module(f"habitus.jobs.{module}").run(context)

    return run


def _previewed(module: str) -> Callable[[JobContext], Iterator[str]]:
    """What a dry run of the job tells, imported when it is asked for."""

    def preview(context: JobContext) -> Iterator[str]:
        yield from import_module(f"habitus.jobs.{module}").preview(context)

    return preview


JOBS: dict[str, Job] = {
    job.name: job
    for job in (
        Job(
            name="simulate",
            summary="Make a simulated shop's event and label files.",
            reads=(),
            writes=(),
            run=_lazily("simulate"),
        ),
        Job(
            name="ingest",
            summary="Turn source files into events, rejected rows and labels.",
            reads=(),
            writes=("events", "events_rejected", "labels"),
            run=_lazily("ingest"),
        ),
        Job(
            name="sessionize",
            summary="Group events into sessions.",
            reads=("events",),
            writes=("sessions",),
            run=_lazily("sessionize"),
        ),
        Job(
            name="features",
            summary="Compute point-in-time features and token sequences.",
            reads=("sessions", "labels"),
            writes=("features", "sequences"),
            run=_lazily("featurise"),
            folders=("vocabularies",),
        ),
        Job(
            name="train",
            summary="Fit and calibrate the detectors.",
            reads=("sequences", "events", "labels"),
            writes=(),
            run=_lazily("train"),
            folders=("models", "checkpoints", "tensorboard", "mlruns"),
        ),
        Job(
            name="promote",
            summary="Have a model score that is there, an earlier one perhaps.",
            reads=("sequences",),
            writes=(),
            run=_lazily("promote"),
            folders=("models",),
            preview=_previewed("promote"),
        ),
        Job(
            name="score",
            summary="Score units and flag the strangest, with reasons.",
            reads=("sequences", "features", "events", "cases", "labels"),
            writes=("scores", "anomalies", "flag_days"),
            run=_lazily("score"),
        ),
        Job(
            name="cases",
            summary="Put flags that belong together into cases.",
            reads=("anomalies", "sequences", "events"),
            writes=("cases",),
            run=_lazily("linking"),
        ),
        Job(
            name="evaluate",
            summary="Compare the detectors against the labels of the test period.",
            reads=("scores", "sequences", "labels"),
            writes=("evaluations",),
            run=_lazily("evaluate"),
        ),
        Job(
            name="embed",
            summary="Make a vector of each unit; compare flags with the past.",
            reads=("sequences", "anomalies"),
            writes=("embeddings", "neighbours"),
            run=_lazily("embed"),
        ),
        Job(
            name="volumes",
            summary="Find sudden shifts of a whole seller, category or country.",
            reads=("events",),
            writes=("volume_shifts",),
            run=_lazily("volumes"),
        ),
        Job(
            name="report",
            summary="Write the HTML report.",
            reads=(
                "anomalies",
                "cases",
                "scores",
                "sequences",
                "sessions",
                "events",
                "labels",
                "evaluations",
                "neighbours",
                "volume_shifts",
                "runs",
            ),
            writes=(),
            run=_lazily("report"),
            folders=("reports",),
        ),
        Job(
            name="tune",
            summary="Search for settings with which the behaviour model learns best.",
            reads=("sequences",),
            writes=(),
            run=_lazily("tune"),
            folders=("checkpoints", "tensorboard", "mlruns"),
        ),
        Job(
            name="decide",
            summary="Apply the rules of alerts to the flags that are there.",
            reads=("anomalies", "scores", "sequences", "features", "cases", "labels"),
            writes=("anomalies",),
            run=_lazily("decide"),
            preview=_previewed("decide"),
        ),
        Job(
            name="feedback",
            summary="Turn verdicts on flags and cases, and label files, into labels.",
            reads=("anomalies", "cases", "labels", "sequences"),
            writes=("labels", "events_rejected"),
            run=_lazily("feedback"),
        ),
        Job(
            name="views",
            summary="Make the views that BI tools read.",
            reads=("anomalies", "flag_days", "cases"),
            writes=(),
            run=_lazily("viewing"),
            folders=("views",),
            preview=_previewed("viewing"),
        ),
        Job(
            name="compact",
            summary="Write small files together, clustered for readers.",
            reads=(),
            writes=(
                "events",
                "labels",
                "sessions",
                "features",
                "scores",
                "anomalies",
                "flag_days",
                "cases",
                "embeddings",
                "neighbours",
            ),
            run=_lazily("compact"),
        ),
    )
}

# What `habitus run` does with one source: everything from its files to the report. Not `embed`: it
# reads every unit there is, and not all want vectors.
CHAIN = ("ingest", "sessionize", "features", "train", "score", "cases", "evaluate", "report")
