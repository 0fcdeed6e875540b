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
from _figures import publish_parts

DATA_SETS = {
    "hdfs": _hdfs.figures,
    "handbook": _handbook.figures,
    "banksim": _banksim.figures,
    "msnbc": _msnbc.figures,
    "shop": _attacks.figures,
    "handbook_without_labels": _handbook.figures_without_labels,
}

if __name__ == "__main__":
    publish_parts("detect", DATA_SETS, sys.argv, only_named=["handbook_without_labels"])
