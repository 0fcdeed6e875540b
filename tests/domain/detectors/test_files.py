"""Files of arrays are read as they were written, or refused; what they hold is never run."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from habitus.domain.detectors.files import arrays_file, read_arrays
from habitus.errors import ArtefactError

pytestmark = pytest.mark.plain

ARRAYS = {"counts": np.arange(50), "of.words": np.array(["a", "bc"]), "none": np.empty((0, 3))}


@pytest.mark.parametrize("compressed", [True, False])
def test_arrays_come_back_as_they_were(compressed: bool) -> None:
    found = read_arrays({"some.npz": arrays_file(ARRAYS, compressed)}, "some.npz")

    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


@given(kept=st.floats(0, 1, exclude_max=True), compressed=st.booleans())
def test_a_file_that_was_cut_off_is_refused_by_name(kept: float, compressed: bool) -> None:
    content = arrays_file(ARRAYS, compressed)

    with pytest.raises(ArtefactError, match=r"some.npz: not readable: .* Restore the file, or"):
        read_arrays({"some.npz": content[: int(kept * len(content))]}, "some.npz")


@given(at=st.floats(0, 1, exclude_max=True), flipped=st.integers(1, 255), compressed=st.booleans())
def test_a_changed_byte_is_refused_or_changes_nothing(
    at: float, flipped: int, compressed: bool
) -> None:
    content = bytearray(arrays_file(ARRAYS, compressed))
    content[int(at * len(content))] ^= flipped

    try:
        found = read_arrays({"some.npz": bytes(content)}, "some.npz")
    except ArtefactError:
        return
    for name in found.keys() & ARRAYS.keys():
        np.testing.assert_array_equal(found[name], ARRAYS[name])


def test_what_is_no_archive_of_arrays_is_refused() -> None:
    one = io.BytesIO()
    np.save(one, np.arange(3))

    for content in (b"", b"{}", b"PK\x03\x04", one.getvalue()):
        with pytest.raises(ArtefactError, match=r"some.npz: not readable"):
            read_arrays({"some.npz": content}, "some.npz")


class _Touch:
    """An object whose pickle makes a folder when it is read."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self._path),)


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    hostile = arrays_file({"weights": np.array([_Touch(tmp_path / "ran")], dtype=object)})

    with pytest.raises(ArtefactError, match=r"some.npz: not readable"):
        read_arrays({"some.npz": hostile}, "some.npz")

    assert not (tmp_path / "ran").exists()
