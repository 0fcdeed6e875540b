"""Compare the detectors against the labels of the test period.

spark-submit jobs/evaluate.py [--env NAME] [--set KEY=VALUE ...] [--detectors NAME,...]
    [--dry-run] [--verbose]
"""

import sys

from habitus.cli.main import main

if __name__ == "__main__":
    main(["evaluate", *sys.argv[1:]])
