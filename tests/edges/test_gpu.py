"""Each process that trains takes one GPU before it computes: Spark's choice, or one by its rank."""

from dataclasses import dataclass

import pytest
import tensorflow as tf
from horovod.spark.task import task_info
from pyspark.resource import ResourceInformation

from habitus.edges import ring
from habitus.edges.gpu import use_one_gpu
from habitus.errors import TrainingError

pytestmark = pytest.mark.train

Done = list[tuple[str, ...]]


@dataclass(frozen=True)
class Place:
    """A process's place in a ring."""

    local_rank: int
    rank: int = 0
    size: int = 8


def machine_with(count: int, monkeypatch: pytest.MonkeyPatch) -> Done:
    """Make this a machine with so many GPUs; returns what is done with them, as it is done."""
    gpus = [tf.config.PhysicalDevice(f"gpu {index}", "GPU") for index in range(count)]
    done: Done = []

    def set_visible_devices(devices: tf.config.PhysicalDevice, kind: str) -> None:
        done.append((f"only this {kind}", devices.name))

    def set_memory_growth(device: tf.config.PhysicalDevice, enable: bool) -> None:
        done.append(("grows" if enable else "takes all", device.name))

    monkeypatch.setattr(tf.config, "list_physical_devices", {"GPU": gpus}.__getitem__)
    monkeypatch.setattr(tf.config, "set_visible_devices", set_visible_devices)
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", set_memory_growth)
    return done


def given_by_spark(kind: str, addresses: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    resources = {kind: ResourceInformation(kind, addresses)}
    monkeypatch.setattr(task_info, "_info", task_info.TaskInfo())
    task_info.set_resources(resources)


def work_at(place: Place, done: Done, monkeypatch: pytest.MonkeyPatch) -> Done:
    """What a worker in this place does."""
    done.clear()
    monkeypatch.setattr(ring, "HorovodRing", lambda: place)
    ring._run(lambda place, report: done.append(("works",)), (), {})
    return list(done)


def with_gpu(index: int) -> Done:
    return [("only this GPU", f"gpu {index}"), ("grows", f"gpu {index}"), ("works",)]


@pytest.mark.parametrize("addresses", [["2"], ["2", "0"]])
def test_a_worker_takes_the_gpu_that_spark_gave_it_and_no_other(
    addresses: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    done = machine_with(4, monkeypatch)
    given_by_spark("gpu", addresses, monkeypatch)
    assert work_at(Place(local_rank=1), done, monkeypatch) == with_gpu(2)


def test_a_worker_that_sees_only_the_gpu_that_spark_gave_it_takes_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In a container, say: Spark counts the machine's GPUs, TensorFlow those that are let in."""
    done = machine_with(1, monkeypatch)
    given_by_spark("gpu", ["3"], monkeypatch)
    assert work_at(Place(local_rank=3), done, monkeypatch) == with_gpu(0)


def test_a_gpu_that_spark_calls_by_no_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    done = machine_with(2, monkeypatch)
    given_by_spark("gpu", ["GPU-5e3a"], monkeypatch)
    with pytest.raises(TrainingError, match=r"'GPU-5e3a', .*discoveryScript print numbers"):
        work_at(Place(local_rank=0), done, monkeypatch)
    assert done == []


@pytest.mark.parametrize(("kind", "addresses"), [("fpga", ["3"]), ("gpu", [])])
def test_where_spark_gives_no_gpu_a_worker_takes_one_by_its_rank_on_the_machine(
    kind: str, addresses: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    done = machine_with(2, monkeypatch)
    given_by_spark(kind, addresses, monkeypatch)
    assert work_at(Place(rank=5, local_rank=1), done, monkeypatch) == with_gpu(1)


def test_more_workers_than_gpus_share_them_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    done = machine_with(2, monkeypatch)
    given_by_spark("gpu", [], monkeypatch)
    workers = [work_at(Place(local_rank=rank), done, monkeypatch) for rank in range(5)]
    assert workers == [with_gpu(index) for index in (0, 1, 0, 1, 0)]


def test_without_a_gpu_a_worker_works_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    done = machine_with(0, monkeypatch)
    given_by_spark("gpu", [], monkeypatch)
    assert work_at(Place(local_rank=1), done, monkeypatch) == [("works",)]
    use_one_gpu()
    assert done == [("works",)]


def test_a_process_that_trains_alone_takes_the_first_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    done = machine_with(2, monkeypatch)
    use_one_gpu()
    assert done == with_gpu(0)[:2]


def test_a_process_that_has_computed_keeps_its_gpu_where_any_will_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done = machine_with(2, monkeypatch)

    def too_late(*given: object) -> None:
        raise RuntimeError("devices cannot be modified after being initialized")

    monkeypatch.setattr(tf.config, "set_visible_devices", too_late)
    use_one_gpu()
    assert done == []
    with pytest.raises(TrainingError, match=r"gpu 1: .* begun to compute .* \(devices cannot"):
        use_one_gpu(1)
