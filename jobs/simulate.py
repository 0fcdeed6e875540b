"""Make a simulated shop's event and label files.

spark-submit jobs/simulate.py [--env NAME] [--set KEY=VALUE ...] [--dry-run] [--verbose]
"""

import sys

from habitus.cli.main import main

if __name__ == "__main__":
    main(["simulate", *sys.argv[1:]])
