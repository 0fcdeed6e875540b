"""Find sudden shifts of a whole seller, category or country.

spark-submit jobs/volumes.py [--env NAME] [--set KEY=VALUE ...] [--dry-run] [--verbose]
"""

import sys

from habitus.cli.main import main

if __name__ == "__main__":
    main(["volumes", *sys.argv[1:]])
