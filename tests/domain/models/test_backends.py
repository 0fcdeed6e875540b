"""The Keras models are of no backend: only how they are trained together is TensorFlow's."""

import os
import subprocess
import sys
from pathlib import Path

import backend_work
import numpy as np
import pytest

pytestmark = pytest.mark.train

# What is compiled runs once or a few times: to make it fast takes longer than it is worth.
QUICK = "--xla_backend_optimization_level=0"
JAX = {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "XLA_FLAGS": QUICK}


def test_models_build_learn_and_predict_alike_without_tensorflow(tmp_path: Path) -> None:
    written = tmp_path / "figures.npz"
    paths = os.pathsep.join(path for path in sys.path if path)

    done = subprocess.run(
        [sys.executable, backend_work.__file__, str(written)],
        env=os.environ | JAX | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout == "jax\n", done.stderr
    with np.load(written) as there:
        here = backend_work.figures()
        assert set(there.files) == set(here)
        for name, values in here.items():
            np.testing.assert_allclose(there[name], values, atol=1e-4, err_msg=name)
