"""A small training of the behaviour model, on files."""

from pathlib import Path

import builders
import numpy as np
from sequence_files import FIELDS, START, WORDS, source

from habitus.domain.models.shape import BehaviourShape
from habitus.domain.models.training import Plan
from habitus.edges.feed import Source
from habitus.edges.training import Task


def task_in(folder: Path) -> Task:
    """400 training and 100 validation units, in 8 files of several row groups."""
    folder.mkdir(exist_ok=True)
    whole = source(folder, 8, each=64)
    until = START.replace(day=17)
    return Task(
        model_id="behaviour-trial",
        root=str(folder),
        vocabulary=WORDS,
        shape=BehaviourShape.of(
            WORDS,
            builders.model_settings(hidden=8, dropout=0.2),
            np.zeros((1, 2), dtype=np.float32),
        ),
        plan=Plan(seed=7, epochs=4, steps=13, patience=4, learning_rate=0.01),
        precision="float32",
        batch_size=32,
        validated=80,
        training=Source(whole.files, FIELDS, None, until),
        validation=Source(whole.files, FIELDS, until, START.replace(day=21)),
    )
