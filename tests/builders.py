"""Units made by a known Markov chain, and oddities that it does not make."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from habitus.domain.units import Units
from habitus.domain.vocabulary import FIRST_VALUE, MISSING, FieldVocabulary, Split, Vocabulary
from habitus.model_settings import (
    BehaviourSettings,
    ConvolutionSettings,
    FineTuneSettings,
    TransformerSettings,
)
from habitus.setting_types import BodyName, UnitKind

ACTIONS = ("view", "search", "login", "cart", "pay", "logout")
VIEW, SEARCH, LOGIN, CART, PAY, LOGOUT = range(len(ACTIONS))
# Row: action, column: next action, in the order of ACTIONS. After logout comes the end.
NEXT_ACTION = np.array(
    [
        [0.50, 0.20, 0.00, 0.20, 0.00, 0.10],
        [0.90, 0.10, 0.00, 0.00, 0.00, 0.00],
        [0.30, 0.70, 0.00, 0.00, 0.00, 0.00],
        [0.40, 0.00, 0.00, 0.10, 0.50, 0.00],
        [0.10, 0.00, 0.00, 0.00, 0.05, 0.85],
        [0.00, 0.00, 0.00, 0.00, 0.00, 1.00],
    ]
)
FAILURE = 0.05  # share of logins and payments that fail
LONGEST = 40


def vocabulary(unit_kind: UnitKind = "session") -> Vocabulary:
    """Six fields and two context features, split at the first days of 2026."""

    def named(name: str, *values: str) -> FieldVocabulary:
        return FieldVocabulary(name=name, kind="values", values=values)

    def binned(name: str, unit: str, *bounds: float) -> FieldVocabulary:
        return FieldVocabulary(name=name, kind="bins", bounds=bounds, unit=unit)

    return Vocabulary(
        unit_kind=unit_kind,
        fields=(
            named("action", *ACTIONS),
            named("category", "shoes", "books", "garden", "toys"),
            named("outcome", "success", "failure"),
            binned("gap", "s", 1, 5, 15, 60, 300),
            binned("amount", "", 5, 10, 20, 40, 80, 160),
            named("new_device", "no", "yes"),
        ),
        context=("user_count_1_day", "user_amount_mean_7_days"),
        split=Split(
            train_from=datetime(2026, 1, 1, tzinfo=UTC),
            train_until=datetime(2026, 1, 5, tzinfo=UTC),
            calibrate_from=datetime(2026, 1, 6, tzinfo=UTC),
            validation_until=datetime(2026, 1, 7, tzinfo=UTC),
        ),
    )


def model_settings(
    hidden: int = 12,
    dropout: float = 0.0,
    embedding: int = 4,
    body: BodyName = "lstm",
    tied_embeddings: bool = False,
    counts: bool = True,
    own_habit: bool = False,
) -> BehaviourSettings:
    """A small behaviour model that conditions on both features."""
    return BehaviourSettings(
        body=body,
        cnn_lstm=ConvolutionSettings(layers=2, width=3),
        transformer=TransformerSettings(layers=2, heads=3),
        embedding=embedding,
        tied_embeddings=tied_embeddings,
        hidden=hidden,
        context=("user_*",),
        dropout=dropout,
        counts=counts,
        own_habit=own_habit,
    )


def fine_tune_settings(**changes: object) -> FineTuneSettings:
    """A small head that learns fast."""
    settings = {
        "pretrained": True,
        "frozen": (),
        "learning_rate": 0.01,
        "body_learning_rate": 0.01,
        "epochs": 3,
        "patience": 1,
        "batch_size": 32,
        "hidden": 16,
        "dropout": 0.1,
    }
    return FineTuneSettings.model_validate(settings | changes)


def units(count: int, seed: int, words: Vocabulary) -> Units:
    """`count` sessions of the chain, ended by a logout; or event units with such a history."""
    random = np.random.default_rng(seed)
    cumulative = NEXT_ACTION.cumsum(axis=1)
    actions = np.full((count, LONGEST), LOGOUT)
    actions[:, 0] = LOGIN
    for step in range(1, LONGEST):
        draw = random.random((count, 1))
        actions[:, step] = (draw > cumulative[actions[:, step - 1]]).sum(axis=1).clip(max=LOGOUT)
    lengths = np.argmax(actions == LOGOUT, axis=1) + 1
    lengths[(actions != LOGOUT).all(axis=1)] = LONGEST
    return _filled(words, actions, lengths, random)


def with_history(some: Units, seed: int) -> Units:
    """The units, each as a part that a few events of another one come before, not to be judged."""
    random = np.random.default_rng(seed)
    before = some.take(random.permutation(len(some)))
    events = np.concatenate(
        [
            part
            for index in range(len(some))
            for part in (
                np.arange(before.offsets[index], before.offsets[index + 1])[-3:],
                len(before.amounts) + np.arange(some.offsets[index], some.offsets[index + 1]),
            )
        ]
    )
    lengths = before.lengths.clip(max=3)
    return replace(
        some,
        offsets=np.concatenate([[0], np.cumsum(lengths + some.lengths)]),
        tokens={
            name: np.concatenate([before.tokens[name], own])[events]
            for name, own in some.tokens.items()
        },
        amounts=np.concatenate([before.amounts, some.amounts])[events],
        gaps=np.concatenate([before.gaps, some.gaps])[events],
        scored_from=lengths.astype(np.int32),
    )


def oddities(count: int, seed: int, words: Vocabulary) -> Units:
    """`count` card tests: a login from a new device, then 12 failing payments, seconds apart."""
    random = np.random.default_rng(seed)
    actions = np.full((count, 14), PAY)
    actions[:, 0], actions[:, -1] = LOGIN, LOGOUT
    lengths = np.full(count, 14 if words.unit_kind == "session" else 13)
    return _filled(words, actions, lengths, random, odd=True)


def long_unit(length: int, seed: int, words: Vocabulary) -> Units:
    """One unit of so many events: sessions of the chain on end."""
    some = units(length // 2, seed, words)  # of two events at least
    return replace(
        some.take(np.array([0])),
        offsets=np.array([0, length]),
        tokens={name: values[:length] for name, values in some.tokens.items()},
        amounts=some.amounts[:length],
        gaps=some.gaps[:length],
    )


def of_actions(*sessions: Sequence[int]) -> Units:
    """Sessions of these actions; nothing else is told of them."""
    actions = np.array([action for session in sessions for action in session], dtype=np.int32)
    none = np.zeros(len(actions), dtype=np.float32)
    words = vocabulary()
    missing = {name: np.full_like(actions, MISSING) for name in words.field_names}
    return Units(
        offsets=np.cumsum([0, *map(len, sessions)]),
        tokens=missing | {"action": actions + FIRST_VALUE},
        amounts=none,
        gaps=none,
        context=np.zeros((len(sessions), len(words.context)), dtype=np.float32),
        scored_from=np.zeros(len(sessions), dtype=np.int32),
        closed=np.ones(len(sessions), dtype=bool),
    )


def together(*parts: Units) -> Units:
    """The units of all parts, one after another."""
    starts = np.cumsum([0, *(part.offsets[-1] for part in parts)])
    offsets = [part.offsets[:-1] + start for part, start in zip(parts, starts, strict=False)]

    def joined(name: str) -> npt.NDArray[np.generic]:
        return np.concatenate([getattr(part, name) for part in parts])

    return Units(
        offsets=np.concatenate([*offsets, starts[-1:]]),
        tokens={
            field: np.concatenate([part.tokens[field] for part in parts])
            for field in parts[0].tokens
        },
        **{name: joined(name) for name in ("amounts", "gaps", "context", "scored_from", "closed")},  # type: ignore[arg-type]
    )


def _filled(
    words: Vocabulary,
    actions: npt.NDArray[np.int64],
    lengths: npt.NDArray[np.int64],
    random: np.random.Generator,
    odd: bool = False,
) -> Units:
    inside = np.arange(actions.shape[1]) < lengths[:, None]
    action = actions[inside]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    first = np.isin(np.arange(len(action)), offsets[:-1])
    pays, logs_in = action == PAY, action == LOGIN
    fails = random.random(len(action)) < (0.95 if odd else FAILURE)
    amounts = np.where(pays, random.lognormal(3.4, 0.4, len(action)).round(2), 0)
    gaps = random.lognormal(0.3 if odd else 2.5, 0.2 if odd else 0.8, len(action)).round(1)
    gaps[first] = 0
    category = np.repeat(random.choice(4, len(lengths), p=[0.5, 0.3, 0.15, 0.05]), lengths)
    new_device = np.repeat(random.random(len(lengths)) < (0.9 if odd else 0.02), lengths) & first
    browses = np.isin(action, [VIEW, CART])
    tokens = {
        "action": action + FIRST_VALUE,
        "category": np.where(browses, category + FIRST_VALUE, MISSING),
        "outcome": np.where(pays | logs_in, fails + FIRST_VALUE, MISSING),
        "gap": _binned(words, "gap", gaps),
        "amount": np.where(pays, _binned(words, "amount", amounts), MISSING),
        "new_device": new_device + FIRST_VALUE,
    }
    context = np.stack(
        [random.poisson(30 if odd else 3, len(lengths)), random.normal(30, 8, len(lengths))], axis=1
    )
    context[random.random(len(lengths)) < 0.05] = np.nan
    judged = words.unit_kind == "session"
    return Units(
        offsets=offsets,
        tokens={name: values.astype(np.int32) for name, values in tokens.items()},
        amounts=amounts.astype(np.float32),
        gaps=gaps.astype(np.float32),
        context=context.astype(np.float32),
        scored_from=(np.zeros_like(lengths) if judged else lengths - 1).astype(np.int32),
        closed=np.full(len(lengths), judged),
    )


def _binned(words: Vocabulary, name: str, values: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    binned: npt.NDArray[np.int64] = np.digitize(values, words.field(name).bounds) + FIRST_VALUE
    return binned
