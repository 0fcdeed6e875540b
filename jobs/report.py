"""Write the HTML report.

spark-submit jobs/report.py [--env NAME] [--set KEY=VALUE ...] [--dry-run] [--verbose]
"""

import sys

from habitus.cli.main import main

if __name__ == "__main__":
    main(["report", *sys.argv[1:]])
