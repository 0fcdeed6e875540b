"""What detectors learn from that are told which units are anomalous."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from habitus.domain.units import Units
from habitus.errors import TrainingError

FOLDS = 5
# Fewer of either kind cannot be told from chance, nor shared out among the folds.
FEWEST = 20
_CURVE = 100.0  # scikit-learn's C of the logistic curve over margins


@dataclass(frozen=True)
class Labelled:
    """Training or validation units, N of them, and what was known when training began.

    Args:
        units: The units.
        anomalous: [N] whether a label says so; what no label names counts as normal.
        weights: [N] how many units each stands for, where normal ones were sampled.
        users: [N] a number for each unit's user.
    """

    units: Units
    anomalous: npt.NDArray[np.bool_]
    weights: npt.NDArray[np.float64]
    users: npt.NDArray[np.int64]

    def refuse_too_few(self) -> None:
        """Stop before a model learns one kind alone.

        Raises:
            TrainingError: There are too few anomalous or normal units.
        """
        mend = "Ingest more labels, move split.train_until, or take detectors that need none."
        for kind, mask in (("anomalous", self.anomalous), ("normal", ~self.anomalous)):
            count, users = int(mask.sum()), len(np.unique(self.users[mask]))
            told = f"{count} of {len(mask)} training units are known to be {kind}"
            if count < FEWEST:
                raise TrainingError("labels", f"{told}, fewer than {FEWEST}", mend)
            if users < FOLDS:
                raise TrainingError("labels", f"{told}, of {users} users, not {FOLDS}", mend)

    @cached_property
    def folds(self) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
        """Units to fit on and to judge by, in turn; a user's units are never in both.

        To share out 100,000 takes seconds, and each detector asks more than once.
        """
        from sklearn.model_selection import StratifiedGroupKFold

        folds = StratifiedGroupKFold(FOLDS)
        return list(folds.split(self.anomalous, self.anomalous, self.users))

    def curve(self, margins: npt.NDArray[np.float64], name: str) -> tuple[float, float]:
        """Slope and constant by which margins become log-odds (Platt 1999).

        Args:
            margins: [N] of each unit, by what was not fitted on it.
            name: The detector's.

        Raises:
            TrainingError: Anomalous units have no larger margins than others.
        """
        from sklearn.linear_model import LogisticRegression

        curve = LogisticRegression(C=_CURVE)
        curve.fit(margins[:, None], self.anomalous, self.weights)
        slope, constant = float(curve.coef_[0, 0]), float(curve.intercept_[0])
        if slope <= 0:
            raise TrainingError(
                "labels",
                f"{int(self.anomalous.sum())} anomalous training units cannot be told from the "
                f"others by {name}",
                "Add features that tell them apart, or take other detectors.",
            )
        return slope, constant
