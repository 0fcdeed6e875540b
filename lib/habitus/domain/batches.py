"""Arrow batches of sorted rows."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


def joined(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    """One batch of all rows of batches, at least one, with the same columns."""
    columns = [
        pa.concat_arrays([batch[place] for batch in batches])
        for place in range(batches[0].num_columns)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=batches[0].schema)


def changes(values: pa.Array) -> NDArray[np.bool_]:
    """Whether a value differs from the one before it; the first does."""
    changed = np.ones(len(values), dtype=bool)
    if len(values) > 1:
        here, before = values.slice(1), values.slice(0, len(values) - 1)
        same = pc.or_(
            pc.fill_null(pc.equal(here, before), False), pc.and_(here.is_null(), before.is_null())
        )
        changed[1:] = pc.invert(same).to_numpy(zero_copy_only=False)
    return changed
