"""Turn what analysts made of flags and cases into labels.

spark-submit jobs/feedback.py [--env NAME] [--set KEY=VALUE ...] [--dry-run] [--verbose]
"""

import sys

from habitus.cli.main import main

if __name__ == "__main__":
    main(["feedback", *sys.argv[1:]])
