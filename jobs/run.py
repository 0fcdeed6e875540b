"""Do everything from ingest to report in one go.

spark-submit jobs/run.py --source FILE.yaml --input PATH [--from JOB] [--detectors NAME,...]
    [--env NAME] [--set KEY=VALUE ...] [--dry-run] [--verbose]
"""

import sys

from habitus.cli.main import main

if __name__ == "__main__":
    main(["run", *sys.argv[1:]])
