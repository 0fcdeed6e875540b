"""Makes what is to come in a thread, while what has come is worked on."""

from collections import deque
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def ahead(values: Generator[T], most: int) -> Generator[T]:
    """The same values in the same order, of which up to `most` are made before they are asked for.

    Everything that the values do, from their first to their end, errors and closing included, is
    done in one thread of theirs, as what reads files or holds locks may need it. An error comes up
    where its value would have come; no value is None.
    """
    with ThreadPoolExecutor(1, "ahead") as thread:
        coming = deque(thread.submit(next, values, None) for _ in range(most))
        try:
            while (value := coming.popleft().result()) is not None:
                coming.append(thread.submit(next, values, None))
                yield value
        finally:
            for future in coming:
                future.cancel()
            thread.submit(values.close).result()
