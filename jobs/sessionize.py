"""Group events into sessions.

spark-submit jobs/sessionize.py [--env NAME] [--set KEY=VALUE ...] [--dry-run] [--verbose]
"""

import sys

from habitus.cli.main import main

if __name__ == "__main__":
    main(["sessionize", *sys.argv[1:]])
