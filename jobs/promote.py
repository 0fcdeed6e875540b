"""Have a model score that is there, an earlier one perhaps; a dry run tells instead of which.

spark-submit jobs/promote.py [--env NAME] [--set KEY=VALUE ...] [--dry-run] [--verbose] MODEL_ID
"""

import sys

from habitus.cli.main import main

if __name__ == "__main__":
    main(["promote", *sys.argv[1:]])
