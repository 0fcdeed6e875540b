"""Make the views that BI tools read.

spark-submit jobs/views.py [--env NAME] [--set KEY=VALUE ...] [--dry-run] [--verbose]
"""

import sys

from habitus.cli.main import main

if __name__ == "__main__":
    main(["views", *sys.argv[1:]])
