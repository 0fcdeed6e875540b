"""What the vectors of sessions are good for, on the demo's shop: `make bench-embed`.

The shop is simulated, the behaviour model trained without labels and every session embedded, as the
jobs do. Then sessions that ended after the training period ask for those most like them among all
that ended before they started:

- sessions that the simulator knows as attacks, among other users': are these the same kind of it?
- some that it knows as normal, among everybody's: is the nearest the same user's?

Beside each stands what the counts of actions find, each in the spread of the training sessions'
(the rival). By chance means: the share of such sessions among all that can be found.
"""

import shutil
import sys
import time
from datetime import datetime

import numpy as np
import pandas as pd
import pyarrow as pa
from _figures import Figure, publish
from numpy.typing import NDArray
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from habitus.config import Settings
from habitus.domain.labelling import unit_labels
from habitus.domain.neighbours import Asking, nearest
from habitus.domain.vocabulary import Vocabulary
from habitus.edges.models import load_model
from habitus.edges.spark import start_spark
from habitus.jobs.catalogue import CHAIN, JOBS
from habitus.jobs.frame import Arguments, JobContext, Silent, run_job
from habitus.loading import configuration_folder, load_settings
from habitus.tables import EMBEDDINGS, LABELS, sequences

Vector = NDArray[np.float32]

FOLDER = ".bench/embed"
SHOP = str(configuration_folder() / "sources" / "shop.yaml")
SMALL = ("simulate.users=500", "train.epochs=3")
NEAREST = 3
NORMAL = 1000  # normal sessions that ask, drawn with the seed


def run(spark: SparkSession, job: str, settings: Settings) -> tuple[JobContext, float]:
    """Run a job; its context, and how many seconds it took."""
    arguments = Arguments(source=SHOP, input=settings.simulate.output)
    context = JobContext(job, settings, spark, Silent(), arguments)
    before = time.perf_counter()
    run_job(JOBS[job], context)
    return context, time.perf_counter() - before


def sessions_of(context: JobContext) -> tuple[pd.DataFrame, Vocabulary]:
    """All sessions with their vectors, action tokens and kind of attack, in the order of time."""
    model_id = context.artefacts.current()["behaviour"]
    vocabulary = load_model(context.artefacts.root, model_id).vocabulary
    units = context.lake.read(sequences(vocabulary.field_names))
    kinds = unit_labels(context.lake.read(LABELS), units).groupBy("unit_id").agg(F.min("kind"))
    vectors = context.lake.read(EMBEDDINGS).where(F.col("model_id") == model_id)
    rows = (
        vectors.join(units.select("unit_id", "action"), "unit_id")
        .join(kinds.toDF("unit_id", "kind"), "unit_id", "left")
        .select("unit_id", "user_id", "event_time", "ended_at", "vector", "action", "kind")
        .orderBy("event_time", "unit_id")
    )
    return rows.toPandas(), vocabulary


def action_counts(sessions: pd.DataFrame, vocabulary: Vocabulary) -> list[Vector]:
    """The counts of the actions of each session, standardised, at length 1."""
    size = vocabulary.field("action").size
    counts = np.stack([np.bincount(tokens, minlength=size) for tokens in sessions["action"]])
    trained = counts[is_before(sessions, vocabulary.split.train_until)]
    spread = trained.std(axis=0)
    standard = (counts - trained.mean(axis=0)) / np.where(spread > 0, spread, 1)
    return list((standard / np.linalg.norm(standard, axis=1, keepdims=True)).astype(np.float32))


def is_before(sessions: pd.DataFrame, time: datetime) -> NDArray[np.bool_]:
    """Whether each session ended before a time."""
    return (sessions["ended_at"] < time.replace(tzinfo=None)).to_numpy()


def found(sessions: pd.DataFrame, asking: NDArray[np.int64], vectors: list[Vector]) -> pd.DataFrame:
    """The past sessions nearest to those asking, the nearest first, with the kinds of both."""
    time = pa.timestamp("us")
    schema = pa.schema(
        {"unit_id": pa.string(), "user_id": pa.string(), "event_time": time, "ended_at": time}
    )
    table = pa.Table.from_pandas(sessions, schema, preserve_index=False)
    table = table.append_column("vector", pa.array(vectors, pa.list_(pa.float32())))
    search = nearest(Asking.from_arrow(table.take(asking)), table.to_batches(), NEAREST)
    rows: pd.DataFrame = pa.Table.from_batches(search).to_pandas()
    kind = sessions.set_index("unit_id")["kind"]
    rows["kind"], rows["asking_kind"] = rows["unit_id"].map(kind), rows["asking"].map(kind)
    return rows.sort_values(["asking", "similarity", "ended_at"], ascending=[True, False, False])


def same_kind(rows: pd.DataFrame) -> float:
    """The share of the nearest sessions of other users that are of the kind of the one asking."""
    others = rows[~rows["own"]]
    return float((others["kind"] == others["asking_kind"]).mean())


def same_user(rows: pd.DataFrame) -> float:
    """The share of the sessions asking whose nearest is their own user's."""
    return float(rows.groupby("asking")["own"].first().mean())


def chances(sessions: pd.DataFrame, asking: NDArray[np.int64]) -> tuple[float, float]:
    """How often a past session drawn blindly is of the same kind (of others), or user (of all)."""
    kinds, users = [], []
    ended = sessions["ended_at"].to_numpy()
    for _, unit in sessions.iloc[asking].iterrows():
        past = sessions[ended < np.datetime64(unit["event_time"])]
        own = past["user_id"] == unit["user_id"]
        kinds.append((past.loc[~own, "kind"] == unit["kind"]).mean())
        users.append(own.mean())
    return float(np.nanmean(kinds)), float(np.nanmean(users))


def figures(sessions: pd.DataFrame, vocabulary: Vocabulary, seed: int) -> list[Figure]:
    """What the nearest sessions are, by the vectors and by the counts of actions."""
    later, known = ~is_before(sessions, vocabulary.split.train_until), sessions["kind"].notna()
    attacks = np.flatnonzero(later & known)
    # A user's first session has no own past to be found.
    normal = np.flatnonzero(later & ~known & sessions["user_id"].duplicated())
    normal = np.random.default_rng(seed).permutation(normal)[:NORMAL]
    ways = (list(sessions["vector"]), action_counts(sessions, vocabulary))
    of_attacks = [found(sessions, attacks, vectors) for vectors in ways]
    of_normal = [found(sessions, normal, vectors) for vectors in ways]
    chance, _ = chances(sessions, attacks)
    _, user_chance = chances(sessions, normal)
    ours, rival = (same_kind(rows) for rows in of_attacks)
    own, rival_own = (same_user(rows) for rows in of_normal)
    name = f"attacks: share of the {NEAREST} nearest of others of the same kind"
    by_kind = [
        {kind: same_kind(part) for kind, part in rows.groupby("asking_kind")} for rows in of_attacks
    ]
    return [
        Figure("sessions embedded", len(sessions)),
        Figure("attacks that ask", len(attacks)),
        Figure(name, ours, rival),
        Figure("  by chance", chance),
        *(
            Figure(f"  {str(kind).replace('_', ' ')}", share, by_kind[1][kind])
            for kind, share in by_kind[0].items()
        ),
        Figure("normal sessions: share whose nearest is its user's", own, rival_own),
        Figure("  by chance", user_chance),
    ]


def main() -> None:
    """Print the table; `--small` takes a smaller shop."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    small = SMALL if sys.argv[1:] == ["--small"] else ()
    settings = load_settings(
        "demo",
        [
            f"lake.root={FOLDER}/lake",
            f"simulate.output={FOLDER}/raw",
            "detectors=[behaviour]",
            *small,
        ],
    )
    spark = start_spark(settings.spark, "benchmark")
    for job in ("simulate", *CHAIN[: CHAIN.index("evaluate")]):
        run(spark, job, settings)
    context, seconds = run(spark, "embed", settings)
    _, again = run(spark, "embed", settings)
    found_figures = figures(*sessions_of(context), settings.seed)
    spark.stop()
    publish(
        "embed",
        [
            *found_figures,
            Figure("seconds of the job", round(seconds, 1)),
            Figure("seconds of the job when nothing is new", round(again, 1)),
        ],
    )


if __name__ == "__main__":
    main()
