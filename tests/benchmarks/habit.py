"""What a user's own habit tells of accounts in other hands: `make bench-habit`.

Simulated shops (conf/demo.yaml, but twice as long), whose features are the amounts a user paid and
the share that each category had in what the user did. The behaviour model is trained on them twice,
with `own_habit` and without. Then normal test sessions of users with a past that touch LOOKS items
or more are judged as they are, and as if they were in the account of another such user: with that
one's features, and nothing else changed, not even the device or the network.

The figures are AUCs of the sessions in other hands against the same sessions as they are: a
detector that does not see whose a session is has 0.5. What `own_habit` costs beside is told by the
mean recall of simulated attacks at 1 % of sessions. No setting was chosen on these shops.
"""

import sys
import tempfile
from dataclasses import replace

import numpy as np
from _attacks import Shop, mean, of_known, recalls, simulated
from _cli import habitus, models
from _figures import Figure, publish
from sklearn.metrics import roc_auc_score

from habitus.domain.detectors.base import Detector
from habitus.domain.simulation.catalogue import CATEGORIES
from habitus.domain.units import Units
from habitus.domain.vocabulary import MISSING
from habitus.edges.models import load_model

SEEDS = (311, 312, 313)
LOOKS = 6
RIVALS = ("conduct", "isolation_forest", "markov")
PLAIN, OWN_HABIT = "behaviour", "behaviour, own_habit"
SHARES = "{{entity: user, windows: [60 days], measures: [share], where: {{category: {}}}}}"
PAID = "{entity: user, windows: [7 days], measures: [mean, max]}"
SETTINGS = (
    "simulate.days=56",
    f"features=[{', '.join([PAID, *(SHARES.format(name) for name in CATEGORIES)])}]",
    "train.behaviour.context=[user_amount_*, user_share_*]",
)

Judged = dict[str, tuple[float, float]]


def in_other_hands(shop: Shop, random: np.random.Generator) -> tuple[Units, Units]:
    """Sessions as they are, and the same in accounts of other users."""
    units = shop.units
    looks = np.bincount(units.unit_of_event, units.tokens["category"] != MISSING, len(units))
    past = ~np.isnan(units.context).any(axis=1)
    normal = (shop.sessions["kinds"].list.len() == 0).to_numpy()
    chosen = random.permutation(np.flatnonzero((looks >= LOOKS) & past & normal))
    users = shop.sessions["user"].to_numpy()[chosen]
    usual = units.take(chosen)
    # By the users' order half a round away is somebody else, unless one user has half of them all.
    order = np.argsort(users, kind="stable")
    other = np.empty_like(order)
    other[order] = np.roll(order, len(order) // 2)
    kept = np.flatnonzero(users != users[other])
    return usual.take(kept), replace(usual, context=usual.context[other]).take(kept)


def judged(shop: Shop, lake: str, seed: int) -> Judged:
    """Each detector's AUC of sessions in other hands, and its mean recall of attacks."""
    test = shop.tested()
    usual, others = in_other_hands(test, np.random.default_rng(seed))
    truth = np.repeat([0, 1], len(usual))
    found = of_known(shop, lake, seed)
    every: Judged = {}
    for name, model_id in models(lake).items():
        detector: Detector = load_model(lake, model_id).detector
        scores = np.concatenate([detector.score(usual), detector.score(others)])
        every[name] = float(roc_auc_score(truth, scores)), float(mean(recalls([found], name))[0])
    return every


def of_shop(seed: int, small: bool) -> Judged:
    """What the detectors of a shop find, `behaviour` in both ways."""
    with tempfile.TemporaryDirectory() as folder:
        lake = simulated(seed, folder, small, (*RIVALS, PLAIN), SETTINGS)
        every = judged(Shop.read(lake), lake, seed)
        ours = [f"seed={seed}", f"lake.root={lake}", f"detectors=[{PLAIN}]", *SETTINGS]
        for job in ("train", "score"):
            habitus(
                job, "demo", [*ours, "train.behaviour.own_habit=true", f"alerts.detector={PLAIN}"]
            )
        every[OWN_HABIT] = judged(Shop.read(lake), lake, seed)[PLAIN]
    print(seed, every, file=sys.stderr)
    return every


def main(arguments: list[str]) -> None:
    """Print and write the figures."""
    small = "--small" in arguments
    shops = [of_shop(seed, small) for seed in SEEDS[: 1 if small else None]]
    figures = []
    for place, title in enumerate(("AUC of sessions in other hands", "mean recall of attacks")):
        means = {name: float(np.mean([one[name][place] for one in shops])) for name in shops[0]}
        rivals = {OWN_HABIT: means[PLAIN]}
        figures += [Figure(f"{name}, {title}", means[name], rivals.get(name)) for name in means]
        figures += [
            Figure(f"{OWN_HABIT}, {title}, shop {seed}", one[OWN_HABIT][place], one[PLAIN][place])
            for seed, one in zip(SEEDS, shops, strict=False)
        ]
    publish("habit", figures)


if __name__ == "__main__":
    main(sys.argv[1:])
