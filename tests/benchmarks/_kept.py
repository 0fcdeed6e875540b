"""Where benchmarks keep what takes long to make: elsewhere for every version of the code."""

import hashlib
from pathlib import Path

_ROOT = Path(__file__).parents[2]


def kept(name: str) -> str:
    """The folder under `.bench`; what an earlier version has made is not taken for ours."""
    digest = hashlib.sha256()
    for path in sorted([*_ROOT.glob("lib/**/*.py"), *_ROOT.glob("conf/**/*.yaml")]):
        digest.update(path.read_bytes())
    return f".bench/{name}-{digest.hexdigest()[:8]}"
