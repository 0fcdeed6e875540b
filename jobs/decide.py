"""Apply the rules of `alerts` to the flags that are there; a dry run tells what would change.

spark-submit jobs/decide.py [--env NAME] [--set KEY=VALUE ...] [--dry-run] [--verbose]
"""

import sys

from habitus.cli.main import main

if __name__ == "__main__":
    main(["decide", *sys.argv[1:]])
