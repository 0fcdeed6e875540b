"""What Spark raises, in our words; what real faults raise is in the tests of jobs."""

import socket

import pytest
from py4j.java_gateway import GatewayParameters, JavaGateway, JavaObject
from py4j.protocol import Py4JJavaError, Py4JNetworkError
from pyspark.errors import PySparkException

from habitus.edges.spark_errors import is_conflict, spark_says, understood
from habitus.errors import ClusterError, InputError

pytestmark = pytest.mark.plain

FILE = "s3a://lake/events/part-0.snappy.parquet"
READ = f"[FAILED_READ_FILE.NO_HINT] Encountered error while reading file {FILE}. "


def told(text: str) -> str:
    return str(understood(PySparkException(text)))


def test_lost_workers_are_named() -> None:
    error = understood(
        PySparkException(
            "Job aborted due to stage failure: Task 3 in stage 7.0 failed 4 times, most recent "
            "failure: Lost task 3.3 in stage 7.0 (TID 91) (10.0.0.7 executor 5): "
            "ExecutorLostFailure (executor 5 exited caused by one of the running tasks)"
        )
    )

    assert isinstance(error, ClusterError)
    assert "a task lost its worker 4 times" in str(error)


def test_a_damaged_file_is_told_from_a_storage_that_refuses() -> None:
    damaged = told(f"{READ}\nCaused by: java.io.IOException: FAILED_TO_UNCOMPRESS(5)")
    refused = told(f"{READ}\nCaused by: java.net.SocketTimeoutException: Read timed out")

    assert damaged.startswith(f"{FILE}: the file is damaged")
    assert refused == f"{FILE}: the file could not be read: Read timed out. Run it again."


def test_a_file_that_is_gone_is_named() -> None:
    gone = told(READ.replace("NO_HINT", "FILE_NOT_EXIST"))

    assert gone.startswith(f"{FILE}: the file is gone")


def test_a_worker_that_kept_what_is_read_again_is_told_of() -> None:
    lost = told(
        "Job aborted due to stage failure: Task 0 in stage 3.0 failed 1 times, most recent "
        "failure: Lost task 0.0 in stage 3.0 (TID 5): org.apache.spark.SparkException: "
        "[CHECKPOINT_RDD_BLOCK_ID_NOT_FOUND] Checkpoint block rdd_4_0 not found!"
    )

    assert lost.startswith("spark: a worker is gone that kept")


def test_what_is_not_known_is_left_as_it_is() -> None:
    assert understood(PySparkException("[DIVIDE_BY_ZERO] Division by zero.")) is None
    assert understood(ValueError("No space left on device")) is None


def test_only_other_writers_make_conflicts() -> None:
    assert is_conflict(PySparkException("[DELTA_CONCURRENT_APPEND] Files were added by another."))
    assert not is_conflict(PySparkException("[DELTA_MISSING_CHANGE_DATA] No change data."))


def test_input_errors_are_errors_of_input() -> None:
    assert isinstance(understood(PySparkException(READ)), InputError)


def test_a_java_that_has_ended_is_named_though_it_cannot_be_asked() -> None:
    with socket.socket() as nobody:  # bound, so that nobody else listens here
        nobody.bind(("127.0.0.1", 0))
        gateway = JavaGateway(gateway_parameters=GatewayParameters(port=nobody.getsockname()[1]))
        asked = Py4JJavaError("An error occurred", JavaObject("o1", gateway._gateway_client))

        for error in (asked, Py4JNetworkError("Error while sending or receiving")):
            assert isinstance(understood(error), ClusterError)
            assert str(understood(error)).startswith("spark: its Java process has ended. ")
            assert spark_says(error) == "its Java process has ended"
            assert not is_conflict(error)
