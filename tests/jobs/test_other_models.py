"""Models beside those of a small lake: one named, a challenger, an ensemble."""

from pathlib import Path

import polars as pl
import pytest
from jobs.conftest import SmallLake, copied, run
from pyspark.sql import SparkSession

from habitus.config import EnsembleSettings

pytestmark = pytest.mark.jobs


def test_a_model_named_in_the_settings_flags_and_a_challenger_scores_beside_it(
    spark: SparkSession, tmp_path: Path, chain: SmallLake
) -> None:
    settings = copied(chain, tmp_path)
    settings = settings.model_copy(
        update={
            "seed": settings.seed + 1,
            "detectors": ("markov",),
            "alerts": settings.alerts.model_copy(update={"detector": "markov"}),
        }
    )
    old = chain.contexts["train"].artefacts.current()["markov"]
    new = run(spark, "train", settings).artefacts.current()["markov"]
    named = {"models": {"markov": old}, "challengers": (new,)}
    pinned = settings.model_copy(update={"score": settings.score.model_copy(update=named)})

    run(spark, "score", pinned)
    root = settings.lake.root
    scores = pl.read_delta(f"{root}/scores")
    of = {one: scores.filter(pl.col("model_id") == one).sort("unit_id") for one in (old, new)}
    assert old != new
    assert of[old]["unit_id"].equals(of[new]["unit_id"])
    flagging = set(pl.read_delta(f"{root}/anomalies")["model_id"])
    assert old in flagging
    assert new not in flagging

    # Without a name it is the newest again, and nothing is to be scored anew.
    assert run(spark, "score", settings).rows_in["units to score"] == 0
    assert new in set(pl.read_delta(f"{root}/anomalies")["model_id"])


def test_an_ensemble_scores_flags_and_is_compared_beside_its_members(
    spark: SparkSession, tmp_path: Path, chain: SmallLake
) -> None:
    settings = copied(chain, tmp_path)
    choice = {
        "detectors": ("markov", "isolation_forest", "ensemble"),
        "alerts": settings.alerts.model_copy(update={"detector": "ensemble"}),
        "ensemble": EnsembleSettings(members=("markov", "isolation_forest")),
    }
    settings = settings.model_copy(update=choice)
    members = chain.contexts["train"].artefacts.current()

    for job in ("train", "score", "evaluate"):
        context = run(spark, job, settings)

    current = context.artefacts.current()
    assert all(current[name] == members[name] for name in settings.ensemble.members)
    mine = pl.col("model_id") == current["ensemble"]
    scores = pl.read_delta(f"{settings.lake.root}/scores")
    tested = scores.filter(pl.col("model_id") == current["markov"])["unit_id"]
    assert sorted(scores.filter(mine)["unit_id"]) == sorted(tested)
    flags = pl.read_delta(f"{settings.lake.root}/anomalies").filter(mine)
    assert flags.height > 0
    assert all(len(reasons) > 0 for reasons in flags["reasons"])
    evaluations = pl.read_delta(f"{settings.lake.root}/evaluations")
    assert set(evaluations.filter(mine)["detector"]) == {"ensemble"}
    # Of two members, one is left without the other: it ranks as that one does by itself.
    figures = {
        detector: dict(zip(of_all["measure"], of_all["value"], strict=True))
        for (detector,), of_all in evaluations.filter(kind="all").group_by("detector")
    }
    for member, other in (settings.ensemble.members, settings.ensemble.members[::-1]):
        less = figures[f"ensemble without {other}"]
        assert less["auc"] == pytest.approx(figures[member]["auc"], abs=0.01)
