"""Fit and calibrate the detectors.

spark-submit jobs/train.py [--env NAME] [--set KEY=VALUE ...] [--detectors NAME,...]
    [--dry-run] [--verbose]
"""

import sys

from habitus.cli.main import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
