"""Turn source files into events, rejected rows and labels.

spark-submit jobs/ingest.py --source FILE.yaml --input PATH
    [--env NAME] [--set KEY=VALUE ...] [--dry-run] [--verbose]
"""

import sys

from habitus.cli.main import main

if __name__ == "__main__":
    main(["ingest", *sys.argv[1:]])
