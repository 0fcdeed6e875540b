"""Search for settings of the behaviour model.

spark-submit jobs/tune.py [--env NAME] [--set KEY=VALUE ...] [--dry-run] [--verbose]
"""

import sys

from habitus.cli.main import main

if __name__ == "__main__":
    main(["tune", *sys.argv[1:]])
