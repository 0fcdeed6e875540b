"""How frames are joined with others that are small, until they are not any more."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

# So many narrow rows, and no more, are sent to every task.
_FEW = 1_000_000


def whole_if_few(frame: DataFrame) -> DataFrame:
    """A frame that is sent to every task whole where it has few rows.

    For one side of a join that grows with the lake. The rows are counted first, so it is to be a
    frame that is kept, or is cheap to read again.

    Args:
        frame: With narrow rows: ids, times, numbers.
    """
    return F.broadcast(frame) if frame.count() <= _FEW else frame
