"""Put flags that belong together into cases.

spark-submit jobs/cases.py [--env NAME] [--set KEY=VALUE ...] [--dry-run] [--verbose]
"""

import sys

from habitus.cli.main import main

if __name__ == "__main__":
    main(["cases", *sys.argv[1:]])
