"""What Spark and Delta raise, in words that a person can act on."""

import re
from collections.abc import Callable

from py4j.protocol import Py4JError, Py4JJavaError, Py4JNetworkError
from pyspark.errors import PySparkException

from habitus.errors import ClusterError, HabitusError, InputError

# What a failed query, read or write raises: the first when Spark knows what is wrong with it.
SPARK_ERRORS = (PySparkException, Py4JJavaError)
_JAVA_IS_GONE = "its Java process has ended"
# What Delta says of a table that another writer changed first.
_CONFLICT = re.compile(
    "DELTA_CONCURRENT_|DELTA_METADATA_CHANGED|DELTA_PROTOCOL_CHANGED|TABLE_ALREADY_EXISTS"
    "|TABLE_OR_VIEW_ALREADY_EXISTS|DELTA_CREATE_TABLE_WITH_NON_EMPTY_LOCATION"
)
# What a reader says of bytes that are not what they were.
_DAMAGED = re.compile(
    "is not a Parquet file|could not read page|FAILED_TO_UNCOMPRESS|ParquetDecodingException"
    "|ChecksumException"
)


def spark_says(error: Exception) -> str:
    """What Spark found wrong, in one line without codes, suggestions and stack traces."""
    text = _text(error)
    if text is None:
        return _JAVA_IS_GONE
    if isinstance(error, Py4JJavaError):
        cause = error.java_exception
        while cause.getCause() is not None:
            cause = cause.getCause()
        text = cause.getMessage() or cause.toString()
    line = next((line for line in text.splitlines() if line.strip()), type(error).__name__)
    line = re.sub(r"^\s*\[[A-Z_.0-9]+\]\s*", "", line)
    return re.split(r" SQLSTATE| Did you mean| \(line \d", line)[0].rstrip(". ")


def is_conflict(error: Exception) -> bool:
    """Whether Delta refused a write because another writer was first."""
    return _CONFLICT.search(_text(error) or "") is not None


def understood(error: BaseException) -> HabitusError | None:
    """The same in our words, with its mend; None where the cause is not one of the known ones."""
    if not isinstance(error, (*SPARK_ERRORS, Py4JNetworkError)):
        return None
    text = _text(error)
    if text is None:
        return ClusterError(
            "spark",
            _JAVA_IS_GONE,
            "See why it went (memory is the usual cause: raise spark.driver_memory where the "
            "machine has more, else lower it), and run it again.",
        )
    for pattern, words in _KNOWN:
        if found := pattern.search(text):
            return words(found)
    return None


def _text(error: BaseException) -> str | None:
    """What an error says; None where that would be for Java to say, and it is gone."""
    if isinstance(error, Py4JNetworkError):
        return None
    try:
        return str(error)
    except (OSError, Py4JError):
        return None


def _disk_full(_: re.Match[str]) -> HabitusError:
    return ClusterError(
        "spark.local.dir",
        "no space left on a disk that Spark writes to, most likely that of its shuffle files",
        "Free space there, or name larger disks in spark.options (spark.local.dir; on a cluster "
        "the workers' SPARK_LOCAL_DIRS), and run it again.",
    )


def _unreadable(found: re.Match[str]) -> HabitusError:
    if found["why"] == "FILE_NOT_EXIST":
        problem = "the file is gone"
    elif _DAMAGED.search(found.string):
        problem = "the file is damaged"
    else:
        # A storage that is slow or refuses, most likely.
        cause = re.findall(r"Caused by: (?:[\w.$]+: )?([^\n]+)", found.string)
        said = f": {cause[-1].rstrip('. ')}" if cause else ""
        return InputError(found["path"], f"the file could not be read{said}", "Run it again.")
    return InputError(
        found["path"],
        problem,
        "Restore it from a copy, or its table to a version without it (RESTORE TABLE ... TO "
        "VERSION AS OF ...), and run it again.",
    )


def _workers_lost(found: re.Match[str]) -> HabitusError:
    return ClusterError(
        "spark",
        f"a task lost its worker {found['times']} times, which is as often as it may",
        "See why the workers went in their logs (memory is the usual cause: raise "
        "spark.executor.memoryOverhead or spark.shuffle.partitions), and run it again.",
    )


def _kept_lost(_: re.Match[str]) -> HabitusError:
    return ClusterError(
        "spark",
        "a worker is gone that kept what an earlier part of this step had made",
        "Run it again: what is written stays, and is not made anew.",
    )


_KNOWN: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], HabitusError]], ...] = (
    (re.compile(r"No space left on device"), _disk_full),
    (re.compile(r"FAILED_READ_FILE\.(?P<why>\w+)\] .*? file (?P<path>\S+?)\.?\s"), _unreadable),
    (
        re.compile(
            r"failed (?P<times>\d+) times, most recent failure: Lost task [^\n]*: "
            "ExecutorLostFailure"
        ),
        _workers_lost,
    ),
    (re.compile(r"CHECKPOINT_RDD_BLOCK_ID_NOT_FOUND"), _kept_lost),
)
