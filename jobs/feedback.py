"""Turn verdicts on flags and cases, and label files, into labels.

spark-submit jobs/feedback.py [--source FILE.yaml --input PATH]
    [--env NAME] [--set KEY=VALUE ...] [--dry-run] [--verbose]
"""

import sys

from habitus.cli.main import main

if __name__ == "__main__":
    main(["feedback", *sys.argv[1:]])
