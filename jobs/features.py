"""Compute point-in-time features and token sequences.

spark-submit jobs/features.py [--env NAME] [--set KEY=VALUE ...] [--dry-run] [--verbose]
"""

import sys

from habitus.cli.main import main

if __name__ == "__main__":
    main(["features", *sys.argv[1:]])
