"""All jobs, in the order in which a first run takes them."""

from habitus.jobs.frame import Job

JOBS: dict[str, Job] = {
    job.name: job
    for job in (
        Job(
            name="simulate",
            summary="Make a simulated shop's event and label files.",
            reads=(),
            writes=(),
        ),
        Job(
            name="ingest",
            summary="Turn source files into events, rejected rows and labels.",
            reads=("events", "labels"),
            writes=("events", "events_rejected", "labels"),
        ),
        Job(
            name="sessionize",
            summary="Group events into sessions.",
            reads=("events",),
            writes=("sessions",),
        ),
        Job(
            name="features",
            summary="Compute point-in-time features and token sequences.",
            reads=("sessions", "labels"),
            writes=("features", "sequences"),
            folders=("vocabularies",),
        ),
        Job(
            name="train",
            summary="Fit and calibrate the detectors.",
            reads=("sequences", "events", "labels"),
            writes=(),
            folders=("models", "checkpoints", "tensorboard", "mlruns"),
        ),
        Job(
            name="promote",
            summary="Have a model score that is there, an earlier one perhaps.",
            reads=("sequences",),
            writes=(),
            folders=("models",),
            previews=True,
        ),
        Job(
            name="score",
            summary="Score units and flag the strangest, with reasons.",
            reads=("sequences", "features", "events", "cases", "labels"),
            writes=("scores", "anomalies", "flag_days"),
        ),
        Job(
            name="cases",
            summary="Put flags that belong together into cases.",
            reads=("anomalies", "sequences", "events"),
            writes=("cases",),
        ),
        Job(
            name="evaluate",
            summary="Compare the detectors against the labels of the test period.",
            reads=("scores", "sequences", "labels"),
            writes=("evaluations",),
        ),
        Job(
            name="embed",
            summary="Make a vector of each unit; compare flags with the past.",
            reads=("sequences", "anomalies"),
            writes=("embeddings", "neighbours"),
        ),
        Job(
            name="volumes",
            summary="Find sudden shifts of a whole seller, category or country.",
            reads=("events",),
            writes=("volume_shifts",),
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
            folders=("reports",),
        ),
        Job(
            name="tune",
            summary="Search for settings with which the behaviour model learns best.",
            reads=("sequences",),
            writes=(),
            folders=("checkpoints", "tensorboard", "mlruns"),
        ),
        Job(
            name="decide",
            summary="Apply the rules of alerts to the flags that are there.",
            reads=("anomalies", "scores", "sequences", "features", "cases", "labels"),
            writes=("anomalies",),
            previews=True,
        ),
        Job(
            name="feedback",
            summary="Turn verdicts on flags and cases, and label files, into labels.",
            reads=("anomalies", "cases", "labels", "sequences"),
            writes=("labels", "events_rejected"),
        ),
        Job(
            name="views",
            summary="Make the views that BI tools read.",
            reads=("anomalies", "flag_days", "cases"),
            writes=(),
            folders=("views",),
            previews=True,
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
        ),
    )
}

# What `habitus run` does with one source: everything from its files to the report. Not `embed`: it
# reads every unit there is, and not all want vectors.
CHAIN = ("ingest", "sessionize", "features", "train", "score", "cases", "evaluate", "report")
