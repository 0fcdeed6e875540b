"""Score units and flag the strangest, with reasons.

spark-submit jobs/score.py [--env NAME] [--set KEY=VALUE ...] [--detectors NAME,...]
    [--dry-run] [--verbose]
"""

import sys

from habitus.cli.main import main

if __name__ == "__main__":
    main(["score", *sys.argv[1:]])
