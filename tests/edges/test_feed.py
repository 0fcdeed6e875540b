"""The feed delivers each unit once per pass, in an order that can be repeated, to one rank."""

from collections import Counter
from contextlib import closing
from datetime import timedelta
from itertools import islice
from pathlib import Path

import builders
import numpy as np
import pytest
from pyarrow import fs
from sequence_files import FIELDS, START, WORDS, source

from habitus.domain.units import Units
from habitus.edges.feed import Source, _Files, read, read_endlessly
from habitus.errors import InputError, TrainingError

pytestmark = pytest.mark.train


def numbers(parts: list[Units]) -> list[int]:
    return [int(value) for part in parts for value in part.context[:, 0]]


def test_units_come_as_they_were_written(tmp_path: Path) -> None:
    found = next(read(source(tmp_path, 1)))
    units = builders.units(30, 0, WORDS).take(np.arange(10))
    np.testing.assert_array_equal(found.offsets, units.offsets)
    for field in FIELDS:
        np.testing.assert_array_equal(found.tokens[field], units.tokens[field])
    np.testing.assert_array_equal(found.closed, np.arange(10) % 2 == 0)
    np.testing.assert_array_equal(np.isnan(found.context[:, 1]), np.arange(10) % 3 == 0)
    assert found.context[4].tolist() == [4.0, 2.0]


def test_only_units_that_end_in_the_period_come(tmp_path: Path) -> None:
    whole = source(tmp_path, 2)
    part = Source(whole.files, FIELDS, START + timedelta(hours=13), START + timedelta(hours=47))
    assert sorted(numbers(list(read(part)))) == list(range(13, 47))


def test_a_seed_fixes_the_order_and_another_changes_it(tmp_path: Path) -> None:
    found = source(tmp_path, 3)
    assert numbers(list(read(found))) == list(range(90))

    def one_pass(seed: int) -> list[int]:
        with closing(read_endlessly(found, 0, 1, seed)) as feed:
            return numbers(list(islice(feed, 9)))

    assert one_pass(1) == one_pass(1)
    assert one_pass(1) != one_pass(2)
    assert sorted(one_pass(1)) == list(range(90))


@pytest.mark.parametrize("files", [1, 3, 9])
def test_ranks_share_all_units_between_them(tmp_path: Path, files: int) -> None:
    found = source(tmp_path, files)
    shares = [numbers(list(read(found, rank, 2))) for rank in range(2)]
    assert sorted(shares[0] + shares[1]) == list(range(30 * files))
    assert min(map(len, shares)) >= 12 * files


def test_with_files_enough_each_is_read_by_one_rank_only() -> None:
    files = tuple((f"f{number}", 10 + number) for number in range(12))
    found = Source(files, FIELDS, None, START)
    shares = [found.share(rank, 3) for rank in range(3)]
    assert sorted(file for share, _ in shares for file in share) == sorted(f for f, _ in files)
    loads = [sum(dict(files)[file] for file in share) for share, _ in shares]
    assert max(loads) - min(loads) <= 10


def test_an_endless_feed_repeats_all_units_as_often_as_one_another(tmp_path: Path) -> None:
    found = source(tmp_path, 2)
    with closing(read_endlessly(found, 0, 1, 7)) as feed:
        parts = list(islice(feed, 18))
    assert Counter(numbers(parts)) == dict.fromkeys(range(60), 3)


def test_an_endless_feed_of_nothing_says_so(tmp_path: Path) -> None:
    empty = Source(source(tmp_path, 1).files, FIELDS, None, START)
    with pytest.raises(TrainingError, match="hold no unit to train on"):
        next(read_endlessly(empty, 0, 1, 7))


def test_no_row_is_lost_however_often_a_reader_is_opened(tmp_path: Path) -> None:
    found = source(tmp_path, 1, each=10)
    for _ in range(40):
        assert numbers(list(read(found))) == list(range(10))


def test_files_are_read_wherever_pyarrow_reads(tmp_path: Path) -> None:
    here = source(tmp_path, 3)
    uris = tuple((f"file://{file}", number) for file, number in here.files)

    there = Source(uris, FIELDS, here.after, here.until)

    assert numbers(list(read(there))) == numbers(list(read(here)))


def test_a_path_below_a_bucket_is_what_pyarrow_calls_it(tmp_path: Path) -> None:
    source(tmp_path, 1)
    names = sorted(path.name for path in tmp_path.glob("*.parquet"))
    bucket = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())

    files = _Files(bucket, absolute=False)

    assert files.exists(f"/{names[0]}")
    assert files.isfile(f"/{names[0]}")
    assert not files.isdir(f"/{names[0]}")
    assert not files.exists("/nothing.parquet")
    assert files.open(f"/{names[0]}").read(4) == b"PAR1"


def test_a_place_that_training_cannot_read_is_named(tmp_path: Path) -> None:
    far = Source((("abfss://lake@account/part-0.parquet", 5),), FIELDS, None, START)

    with pytest.raises(InputError, match=r"abfss.*mounted folder"):
        next(read(far))
