"""Write small files together, clustered for readers.

spark-submit jobs/compact.py [--env NAME] [--set KEY=VALUE ...] [--dry-run] [--verbose]
"""

import sys

from habitus.cli.main import main

if __name__ == "__main__":
    main(["compact", *sys.argv[1:]])
