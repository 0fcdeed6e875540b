"""Which model scores is a person's to say; one that cannot judge the units is refused by name."""

from pathlib import Path

import pytest
from jobs.conftest import Lines, run
from jobs.unit_lakes import TABLE, WORDS, context_of, lake_of, only, rows, settings_in
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from small_model import model_of

from habitus.errors import ArtefactError, HabitusError, InputError
from habitus.jobs import promote, score, train
from habitus.jobs.frame import Arguments, JobContext
from habitus.jobs.judging import flagging_model

pytestmark = pytest.mark.jobs

OTHER = WORDS.model_copy(update={"context": ("user_count_2_days", "user_amount_mean_7_days")})


@pytest.fixture(scope="module")
def lake(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> JobContext:
    """A lake of few units with two models that know them, and two that do not."""
    context = lake_of(spark, tmp_path_factory.mktemp("lake"), 300, *only("markov"))
    for model_id, words in {
        "markov-old": WORDS,
        "markov-new": WORDS,
        "markov-other": OTHER,
    }.items():
        context.artefacts.write(model_id, model_of(words))
    return context


def asked(spark: SparkSession, lake: JobContext, model_id: str) -> JobContext:
    return JobContext("promote", lake.settings, spark, Lines(), Arguments(model=model_id))


def promoted(spark: SparkSession, lake: JobContext, model_id: str) -> list[str]:
    """Promote a model; what is told of it."""
    context = asked(spark, lake, model_id)
    promote.run(context)
    assert isinstance(context.reporter, Lines)
    return context.reporter.lines


def test_a_promoted_model_scores_until_the_one_before_is_promoted_again(
    spark: SparkSession, lake: JobContext
) -> None:
    first = run(spark, "promote", lake.settings, model="markov-old")
    assert promoted(spark, lake, "markov-new") == [
        "markov: markov-new scores from now on, instead of markov-old",
        "`habitus promote markov-old` goes back",
    ]
    assert flagging_model(lake) == "markov-new"
    assert promoted(spark, lake, "markov-new") == ["markov: markov-new scores already"]

    would, *since = promote.preview(asked(spark, lake, "markov-old"))
    assert would.endswith("markov-old scores from now on, instead of markov-new")
    assert [line.split()[0] for line in since] == ["markov-old", "markov-new"]
    assert flagging_model(lake) == "markov-new"

    promoted(spark, lake, "markov-old")
    assert flagging_model(lake) == "markov-old"
    history = lake.artefacts.promotions("markov")
    assert [one.model_id for one in history] == ["markov-old", "markov-new", "markov-old"]
    assert history[0].run_id == first.run_id


def test_a_model_named_in_the_settings_scores_whatever_is_promoted(
    spark: SparkSession, lake: JobContext
) -> None:
    named = lake.settings.score.model_copy(update={"models": {"markov": "markov-old"}})
    settings = lake.settings.model_copy(update={"score": named})
    told = promoted(spark, JobContext("promote", settings, spark, Lines()), "markov-new")
    assert told[-1] == "score.models names markov-old, which scores as long as it does"


@pytest.mark.parametrize(
    ("model_id", "error", "words"),
    [
        ("markov-nwe", ArtefactError, "no model 'markov-nwe'. Did you mean 'markov-new'?"),
        ("../models/markov-new", ArtefactError, "no model '../models/markov-new'"),
        ("markov-other", InputError, "markov-other can judge those of"),
        ("markov-damaged", ArtefactError, "markov-damaged/counts.npz"),
        ("markof-1", ArtefactError, "'markof' is unknown. Did you mean 'markov'?"),
    ],
)
def test_a_model_that_could_not_score_is_not_promoted(
    spark: SparkSession, lake: JobContext, model_id: str, error: type[HabitusError], words: str
) -> None:
    lake.artefacts.write("markof-1", model_of(WORDS))
    lake.artefacts.write("markov-damaged", {**model_of(WORDS), "counts.npz": b"PK"})
    before = lake.artefacts.current()

    with pytest.raises(error) as caught:
        promoted(spark, lake, model_id)

    assert words in str(caught.value)
    assert lake.artefacts.current() == before


def test_a_challenger_of_another_vocabulary_is_refused_by_name(
    spark: SparkSession, lake: JobContext
) -> None:
    promoted(spark, lake, "markov-new")
    challenged = lake.settings.score.model_copy(update={"challengers": ("markov-other",)})

    with pytest.raises(ArtefactError, match=r"models/markov-other: it knows vocabulary") as caught:
        score.run(context_of(spark, lake.settings.model_copy(update={"score": challenged})))

    assert f"markov-new knows {WORDS.vocabulary_id}" in str(caught.value)


@pytest.mark.parametrize("count", [0, 1])
def test_units_of_another_vocabulary_are_refused_even_if_it_is_one_of_many(
    spark: SparkSession, tmp_path: Path, count: int
) -> None:
    settings = settings_in(tmp_path, *only("markov"))
    context = context_of(spark, settings)
    context.artefacts.write("markov-new", model_of(WORDS))
    context.artefacts.promote(
        "markov", "markov-new", job="train", run_id="1", at=context.started_at
    )
    known = F.when(F.col("unit_id") == "u7", F.lit("another")).otherwise(F.col("vocabulary_id"))
    units = rows(spark, 20).withColumn("vocabulary_id", known)
    context.lake.overwrite(TABLE, units if count else units.where("false"))

    with pytest.raises(InputError, match="markov-new can judge those of") as caught:
        score.run(context_of(spark, settings))

    found = "rows of the vocabulary another" if count else "no row"
    assert f"sequences`: it has {found}" in str(caught.value)


def test_training_promotes_what_is_new_but_not_what_a_person_replaced(
    spark: SparkSession, tmp_path: Path
) -> None:
    def trained(*overrides: str) -> str:
        settings = settings_in(tmp_path, *only("markov"), *overrides)
        context = context_of(spark, settings)
        train.run(context)
        return context.artefacts.current()["markov"]

    context = lake_of(spark, tmp_path, 800, *only("markov"))
    first = trained()
    assert trained("seed=8", "train.promote=false") == first
    (second,) = set(context.artefacts.model_ids()) - {first}
    assert trained("seed=8") == second

    promoted(spark, context, first)
    assert trained("seed=8") == first
    assert trained("seed=9") not in (first, second)
