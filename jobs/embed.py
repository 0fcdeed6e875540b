"""Make a vector of each unit; compare flags with the past.

spark-submit jobs/embed.py [--env NAME] [--set KEY=VALUE ...] [--dry-run] [--verbose]
"""

import sys

from habitus.cli.main import main

if __name__ == "__main__":
    main(["embed", *sys.argv[1:]])
