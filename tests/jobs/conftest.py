"""One small lake, made by the whole chain once, that tests of jobs share and must not change."""

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from rich.console import Console, RenderableType

from habitus.cli.main import main
from habitus.config import Settings
from habitus.jobs.catalogue import CHAIN, JOBS
from habitus.jobs.frame import Arguments, JobContext, run_job
from habitus.loading import configuration_folder, load_settings

SMALL = (
    "simulate.users=150",
    "simulate.days=14",
    "simulate.promotion_days=[11]",
    "simulate.attack_share=0.08",
    "sequences.rare_below=2",
    "train.epochs=2",
    "train.batch_size=32",
    "train.behaviour.hidden=16",
    "train.behaviour.embedding=4",
    "alerts.budget_per_day=5",
    "alerts.false_positive_rate=0.1",
)
SHOP = str(configuration_folder() / "sources" / "shop.yaml")
# Its arguments; gives the exit status and standard error.
Command = Callable[..., tuple[int, str]]


@dataclass
class Lines:
    """A reporter that keeps what it is told."""

    lines: list[str] = field(default_factory=list)

    def step(self, text: str) -> AbstractContextManager[None]:
        self.lines.append(text)
        return nullcontext()

    def say(self, text: str) -> None:
        self.lines.append(text)

    def show(self, renderable: RenderableType) -> None:
        console = Console(width=200)
        with console.capture() as capture:
            console.print(renderable)
        self.lines.append(capture.get())


def small_settings(folder: Path, *overrides: str) -> Settings:
    """Settings of a small shop and a small model, in this folder."""
    places = (f"lake.root={folder}/lake", f"simulate.output={folder}/raw")
    return load_settings(overrides=[*SMALL, *places, *overrides])


def rebuilding(settings: Settings) -> Settings:
    """The settings with which a run makes everything anew."""
    updates = settings.updates.model_copy(update={"rebuild": True})
    return settings.model_copy(update={"updates": updates})


def run(spark: SparkSession, job: str, settings: Settings, **arguments: str) -> JobContext:
    """Do a job's work in this process, and leave no row in `runs`; returns its context."""
    context = _context(spark, job, settings, arguments)
    JOBS[job].run(context)
    return context


def run_as_called(
    spark: SparkSession, job: str, settings: Settings, **arguments: str
) -> JobContext:
    """Run one job in this process as the command line does; returns its context."""
    context = _context(spark, job, settings, arguments)
    run_job(JOBS[job], context)
    return context


def _context(
    spark: SparkSession, job: str, settings: Settings, arguments: dict[str, str]
) -> JobContext:
    return JobContext(job, settings, spark, Lines(), Arguments(**arguments))


@dataclass(frozen=True)
class SmallLake:
    """A lake, where its raw files are, and what each job reported."""

    settings: Settings
    raw: str
    contexts: dict[str, JobContext]


def copied(chain: SmallLake, folder: Path) -> Settings:
    """Settings of a copy of the lake, which a test may change."""
    shutil.copytree(chain.settings.lake.root, folder / "lake")
    return small_settings(folder)


@pytest.fixture(scope="session")
def chain(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> SmallLake:
    folder = tmp_path_factory.mktemp("small")
    settings = small_settings(folder)
    run(spark, "simulate", settings)
    raw = settings.simulate.output
    given = {"source": SHOP, "input": raw}
    return SmallLake(
        settings, raw, {job: run_as_called(spark, job, settings, **given) for job in CHAIN}
    )


@pytest.fixture(scope="session")
def small_lake(chain: SmallLake) -> Path:
    """The root of the lake."""
    return Path(chain.settings.lake.root)


@pytest.fixture
def habitus(spark: SparkSession, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Command:
    """Run the command line on a lake of its own; returns exit status and standard error."""

    def run(*arguments: str, lake: Path | None = None) -> tuple[int, str]:
        settings = [
            f"--set={setting}" for setting in (*SMALL, f"lake.root={lake or tmp_path / 'lake'}")
        ]
        with pytest.raises(SystemExit) as caught:
            main([arguments[0], *settings, *arguments[1:]])
        return int(caught.value.code or 0), capfd.readouterr().err

    return run


def assert_clear(error: str, *words: str) -> None:
    assert error.count("\n") == 1, error
    for word in words:
        assert word in error
    for noise in ("Traceback", "java.", "org.apache", "JVM stacktrace"):
        assert noise not in error
