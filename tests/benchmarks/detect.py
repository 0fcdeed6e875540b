"""How well the detectors find what public data sets and simulated shops hold: `make bench-detect`.

One table for each data set or protocol, with the best published figure and what we are to reach
beside; `python tests/benchmarks/detect.py [--small] hdfs banksim` runs those that are named.
"""

import sys

import _attacks
import _banksim
import _handbook
import _hdfs
import _msnbc
from _figures import publish_parts

DATA_SETS = {
    "hdfs": _hdfs.figures,
    "handbook": _handbook.figures,
    "handbook_weeks": _handbook.figures_of_weeks,
    "handbook_without_labels": _handbook.figures_without_labels,
    "banksim": _banksim.figures,
    "msnbc": _msnbc.figures,
    "shop": _attacks.figures,
}

if __name__ == "__main__":
    publish_parts("detect", DATA_SETS, sys.argv)
