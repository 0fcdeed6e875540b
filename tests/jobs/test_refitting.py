"""Cross-validation: detectors that are trained for each block anew."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from jobs.conftest import Lines, SmallLake, copied, run
from pyspark.sql import SparkSession

from habitus.config import Settings
from habitus.domain.vocabulary import Vocabulary
from habitus.edges.artefacts import ArtefactStore
from habitus.errors import TrainingError
from habitus.jobs.frame import JobContext
from habitus.jobs.refitting import folds_of, judge

pytestmark = pytest.mark.jobs


def refitting(chain: SmallLake, folder: Path, **evaluate: Any) -> Settings:
    settings = copied(chain, folder)
    changed = {"refit": True, "blocks": 2, **evaluate}
    return settings.model_copy(
        update={
            "detectors": ("markov",),
            "evaluate": settings.evaluate.model_copy(update=changed),
        }
    )


def vocabulary_in(root: str) -> Vocabulary:
    (known,) = pl.read_delta(f"{root}/sequences")["vocabulary_id"].unique()
    return ArtefactStore(root).read_vocabulary(known)


def test_detectors_trained_for_each_block_anew_are_compared_on_the_same_test_units(
    spark: SparkSession, tmp_path: Path, chain: SmallLake
) -> None:
    settings = refitting(chain, tmp_path)
    context = run(spark, "evaluate", settings)

    figures = pl.read_delta(f"{settings.lake.root}/evaluations").filter(
        pl.col("measure").str.starts_with("refitted_"), pl.col("detector").is_in(settings.detectors)
    )
    assert sorted(figures["measure"].unique()) == [
        "refitted_average_precision",
        "refitted_average_precision_behind_best",
    ]
    assert set(figures["detector"]) == {"markov"}
    assert set(figures["units"]) == {context.rows_in["test units"]}
    assert isinstance(context.reporter, Lines)
    assert any("trained anew for each" in line for line in context.reporter.lines)
    current = context.artefacts.current()
    card = context.artefacts.read_file(f"models/{current['markov']}/card.md").decode()
    assert "refitted_average_precision" in card
    # What made them is gone, and the lake's own models, scores and sequences are as they were.
    assert not list(Path(settings.lake.root).glob("refits/*"))
    assert current == chain.contexts["train"].artefacts.current()


def test_figures_of_the_models_are_kept_where_a_block_has_too_little_to_train_on(
    spark: SparkSession, tmp_path: Path, chain: SmallLake
) -> None:
    settings = refitting(chain, tmp_path)
    few = settings.train.model_copy(update={"minimum_units": 10**6})
    with pytest.raises(TrainingError, match=r"fewer than train\.minimum_units=1000000"):
        run(spark, "evaluate", settings.model_copy(update={"train": few}))

    figures = pl.read_delta(f"{settings.lake.root}/evaluations")
    assert "auc" in set(figures.filter(pl.col("detector") == "markov")["measure"])
    assert not figures["measure"].str.starts_with("refitted_").any()


def test_a_later_block_is_judged_by_models_of_all_before_it(
    spark: SparkSession, tmp_path: Path, chain: SmallLake
) -> None:
    settings = refitting(chain, tmp_path)
    # Segments may ask for the events themselves.
    settings = settings.model_copy(update={"segments": ("first.channel",)})
    context = JobContext("evaluate", settings, spark, Lines())
    first, second = folds_of(context)
    assert first.until == second.split.validation_until
    judge(context, second, f"{tmp_path}/second")

    assert vocabulary_in(f"{tmp_path}/second").split.validation_until == first.until
    own = pl.read_delta(f"{context.lake.root}/sequences")
    scores = pl.read_delta(f"{tmp_path}/second/scores")
    assert scores["segment"].null_count() == 0
    scored = scores["unit_id"].unique()
    expected = own.filter(pl.col("ended_at") >= first.until)["unit_id"]
    assert sorted(scored) == sorted(expected)


def test_blocks_of_users_are_judged_by_models_that_never_saw_these_users(
    spark: SparkSession, tmp_path: Path, chain: SmallLake
) -> None:
    settings = refitting(chain, tmp_path, blocks_of="users")
    context = JobContext("evaluate", settings, spark, Lines())
    block, other = folds_of(context)
    judge(context, block, f"{tmp_path}/block")
    units = pl.read_delta(f"{tmp_path}/block/sequences")
    is_test = units["ended_at"] >= block.split.validation_until
    learned_from, tested = units.filter(~is_test)["user_id"], units.filter(is_test)["user_id"]
    assert not set(learned_from) & set(tested)
    judged = pl.read_delta(f"{tmp_path}/block/scores")["unit_id"].unique()
    scored = pl.read_delta(f"{context.lake.root}/scores")
    assert sorted(judged) == sorted(
        scored.filter(pl.col("user_id").is_in(set(tested)))["unit_id"].unique()
    )
    # Of the same time, but of other users.
    words, all_words = (vocabulary_in(root) for root in (f"{tmp_path}/block", context.lake.root))
    assert words.split == all_words.split
    assert words != all_words
    assert other.split == block.split
