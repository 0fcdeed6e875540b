"""Values that a thread makes ahead are those that would have come."""

import threading
from collections.abc import Generator
from contextlib import closing
from itertools import islice

import pytest

from habitus.edges.ahead import ahead

pytestmark = pytest.mark.plain


def numbers(seen: list[str], most: int = 100) -> Generator[int]:
    """Numbers from 1; notes what is done, and in which thread."""
    try:
        for number in range(1, most + 1):
            seen.append(threading.current_thread().name)
            yield number
    finally:
        seen.append(f"closed in {threading.current_thread().name}")


@pytest.mark.parametrize("most", [1, 3, 1_000])
def test_all_values_come_in_their_order(most: int) -> None:
    assert list(ahead(numbers([]), most)) == list(range(1, 101))


def test_values_are_made_and_closed_in_one_thread_that_ends() -> None:
    seen: list[str] = []
    with closing(ahead(numbers(seen), 4)) as values:
        assert list(islice(values, 10)) == list(range(1, 11))
    assert set(seen[:-1]) == {"ahead_0"}
    assert seen[-1] == "closed in ahead_0"
    assert not [one for one in threading.enumerate() if one.name.startswith("ahead")]


def test_no_more_are_made_ahead_than_asked_for() -> None:
    seen: list[str] = []
    values = ahead(numbers(seen), 4)
    for taken in range(1, 20):
        next(values)
        assert len(seen) <= taken + 4
    values.close()
    assert len(seen) <= 19 + 4 + 1


def test_the_next_is_made_while_one_is_worked_on() -> None:
    made = threading.Event()

    def values() -> Generator[int]:
        yield 1
        made.set()
        yield 2

    with closing(ahead(values(), 1)) as coming:
        assert next(coming) == 1
        assert made.wait(timeout=60)


def test_an_error_comes_up_where_its_value_would_have_come() -> None:
    def values() -> Generator[int]:
        yield from (1, 2)
        raise ValueError("no third")

    coming = ahead(values(), 8)
    assert [next(coming), next(coming)] == [1, 2]
    with pytest.raises(ValueError, match="no third"):
        next(coming)


def test_an_error_of_closing_is_not_lost() -> None:
    def values() -> Generator[int]:
        try:
            yield from (1, 2)
        finally:
            raise OSError("the files are gone")

    coming = ahead(values(), 1)
    next(coming)
    with pytest.raises(OSError, match="the files are gone"):
        coming.close()
