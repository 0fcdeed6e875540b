"""Where benchmarks keep what takes long to make: elsewhere for every version of the code."""

import hashlib
from pathlib import Path

_ROOT = Path(__file__).parents[2]


def kept(name: str) -> str:
    """The folder under `.bench`; what an earlier version has made is not taken for ours."""
    digest = hashlib.sha256()
    for pattern in ("lib/**/*.py", "conf/**/*.yaml", "tests/benchmarks/*.py"):
        for path in sorted(_ROOT.glob(pattern)):
            digest.update(path.read_bytes())
    return f".bench/{name}-{digest.hexdigest()[:8]}"
