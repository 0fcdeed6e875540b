"""habitus' jobs as a user runs them, and the models that they leave."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def habitus(job: str, env: str, overrides: Sequence[str], *arguments: str) -> None:
    """Run a job under conf/ENV.yaml and overrides KEY=VALUE; its output is this process's.

    It is the command beside this interpreter, whatever is on PATH.

    Raises:
        subprocess.CalledProcessError: The job failed.
    """
    words = [word for override in overrides for word in ("--set", override)]
    command = [str(Path(sys.executable).with_name("habitus")), job, "--env", env]
    subprocess.run([*command, *words, *arguments], check=True)


def models(lake: str) -> dict[str, str]:
    """The model of each detector that is in use."""
    path = Path(f"{lake}/models/current.json")
    found: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    return found
