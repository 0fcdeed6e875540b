"""How well the detectors find what public data sets and simulated shops hold: `make bench-detect`.

One table for each data set, with the best published figure and what we are to reach beside;
`python tests/benchmarks/detect.py [--small] hdfs` runs the data sets named, and
`handbook_without_labels` names one protocol of the Handbook.
"""

import sys

import _attacks
import _banksim
import _handbook
import _hdfs
import _msnbc
from _figures import Figure, show, write

DATA_SETS = {
    "hdfs": _hdfs.figures,
    "handbook": _handbook.figures,
    "banksim": _banksim.figures,
    "msnbc": _msnbc.figures,
    "shop": _attacks.figures,
}
PARTS = {"handbook_without_labels": _handbook.figures_without_labels}


def main() -> None:
    """Run the data sets named, or all."""
    small = "--small" in sys.argv
    named = DATA_SETS | PARTS
    chosen = [name for name in named if name in sys.argv] or list(DATA_SETS)
    found = []
    for name in chosen:
        of_set = named[name](small)
        show(of_set, title=name)
        found += [
            Figure(f"{name}: {one.figure}", one.value, one.rival, one.goal, one.met)
            for one in of_set
        ]
    write("detect", found)


if __name__ == "__main__":
    main()
