"""What pre-training is worth when labels are few: `make bench-transfer`.

A simulated shop of its own. The behaviour model learns from all training sessions, none of them
labelled. Of these a part is then labelled: 50, 200 or 1000 anomalous ones and, in proportion,
normal ones. From this part learn `fine_tuned`, the same net from fresh weights, and
`gradient_boosting`; all are judged on the sessions of the test period, by average precision.

No setting was chosen on this shop.
"""

import sys
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from _figures import Figure, at_least, publish
from _kept import kept
from sklearn.metrics import average_precision_score

from habitus.domain.units import Units

LAKE = kept("transfer")
SHOP = ("seed=11", "simulate.attack_share=0.15")
USERS, SMALL_USERS = 3000, 800
LABELS, SMALL_LABELS = (50, 200, 1000), (50,)
SEEDS, SMALL_SEEDS = (7, 8, 9), (7,)
NETS = {"fine-tuned": True, "from scratch": False}  # whether pre-trained
TREES = "gradient boosting"


@dataclass(frozen=True)
class Shop:
    """All that is learned from and judged on.

    Attributes:
        vocabulary: What the tokens mean.
        settings: Those of the run.
        body: The behaviour model.
        training: The training sessions and whether each is anomalous.
        test: Those of the test period.
        anomalous: Whether each of these is.
    """

    vocabulary: Any
    settings: Any
    body: Any
    training: Any
    test: Units
    anomalous: Any


def shop(users: int) -> Shop:
    """Make the lake and the behaviour model, once for each size, and read them."""
    from pyspark.sql import functions as F

    from habitus.domain.labelling import unit_labels
    from habitus.edges.models import load_model
    from habitus.edges.spark import start_spark
    from habitus.jobs.catalogue import JOBS
    from habitus.jobs.frame import Arguments, JobContext, Silent, run_job
    from habitus.jobs.training_data import TrainingData
    from habitus.loading import configuration_folder, load_settings
    from habitus.tables import LABELS as LABELS_TABLE

    folder = f"{LAKE}/{users}"
    places = (f"lake.root={folder}/lake", f"simulate.output={folder}/raw")
    size = f"simulate.users={users}"
    settings = load_settings(overrides=[*SHOP, *places, size, "detectors=[behaviour]"])
    spark = start_spark(settings.spark, "benchmark")
    given = Arguments(str(configuration_folder() / "sources" / "shop.yaml"), f"{folder}/raw")
    first = ("simulate", "ingest", "sessionize", "features")
    for job in (*(() if Path(f"{folder}/lake/sequences").exists() else first), "train"):
        run_job(JOBS[job], JobContext(job, settings, spark, Silent(), given))
    context = JobContext("train", settings, spark, Silent())
    data = TrainingData(context)
    tested = context.read(data.table).where(
        F.col("ended_at") >= F.lit(data.vocabulary.split.validation_until)
    )
    known = unit_labels(context.read(LABELS_TABLE), tested).select("unit_id").distinct()
    marked = tested.join(known.withColumn("anomalous", F.lit(True)), "unit_id", "left")
    found = marked.orderBy("unit_id").toArrow()
    model_id = context.artefacts.current()["behaviour"]
    made = Shop(
        data.vocabulary,
        settings,
        load_model(context.artefacts.root, model_id).detector,
        data.labelled,
        Units.from_arrow(found, data.vocabulary.field_names),
        found.column("anomalous").is_valid().to_numpy(),
    )
    spark.stop()
    return made


def part(training: Any, labels: int, seed: int) -> Any:
    """A draw of the training units, in which so many are anomalous and others in proportion."""
    from habitus.domain.detectors.labelled import Labelled

    random = np.random.default_rng(seed)
    odd, normal = (np.flatnonzero(mask) for mask in (training.anomalous, ~training.anomalous))
    others = round(labels * len(normal) / len(odd))
    drawn = [random.choice(odd, labels, replace=False), random.choice(normal, others, False)]
    rows = np.sort(np.concatenate(drawn))
    return Labelled(
        training.units.take(rows),
        training.anomalous[rows],
        np.ones(len(rows)),
        training.users[rows],
    )


def precisions(of: Shop, labels: int, seed: int) -> dict[str, float]:
    """Average precision on the test period of what learned from so many labels."""
    from habitus.domain.detectors.fine_tuned import FineTunedDetector
    from habitus.domain.detectors.trees import GradientBoostingDetector

    known, words = part(of.training, labels, seed), of.vocabulary
    fitted: dict[str, Any] = {TREES: GradientBoostingDetector.fit(known, words, seed)}
    for name, pretrained in NETS.items():
        settings = of.settings.train.fine_tune.model_copy(update={"pretrained": pretrained})
        fitted[name] = FineTunedDetector.fit(known, words, seed, of.body, settings)
    found = {
        name: float(average_precision_score(of.anomalous, one.score(of.test)))
        for name, one in fitted.items()
    }
    print(labels, seed, found, file=sys.stderr, flush=True)
    return found


def figures(small: bool) -> list[Figure]:
    """The learning curve."""
    made = shop(SMALL_USERS if small else USERS)
    every, seeds = (SMALL_LABELS, SMALL_SEEDS) if small else (LABELS, SEEDS)
    runs = {(n, seed): precisions(made, n, seed) for n, seed in product(every, seeds)}
    figures = [Figure("share of test sessions that are anomalous", float(made.anomalous.mean()))]
    for labels in every:
        of_runs = [runs[labels, seed] for seed in seeds]
        mean = {name: fmean(one[name] for one in of_runs) for name in of_runs[0]}
        scratch = mean["from scratch"]
        figures.append(
            at_least(f"{labels} labels, fine-tuned", mean["fine-tuned"], scratch, scratch)
        )
        figures.append(Figure(f"{labels} labels, {TREES}", mean[TREES]))
        won = sum(one["fine-tuned"] > one["from scratch"] for one in of_runs)
        figures.append(Figure(f"{labels} labels, draws of {len(seeds)} that fine-tuning wins", won))
    return figures


if __name__ == "__main__":
    publish("transfer", figures("--small" in sys.argv))
