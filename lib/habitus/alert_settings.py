"""The settings of alerts: which units are flagged, what is decided on them, what is kept quiet."""

import re
from typing import Self

from pydantic import Field, model_validator

from habitus.setting_types import DecisionName, DetectorName, Duration, Frozen, Language, Share


class CostSettings(Frozen):
    """What flagging and not flagging cost, in any one currency."""

    miss: float = Field(gt=0, description="An anomaly that is not flagged.")
    false_alarm: float = Field(
        ge=0, description="A normal unit that is flagged, beside its review."
    )
    review: float = Field(ge=0, description="Looking at a flag.")
    prior: Share = Field(description="Share of units that are anomalous, before anything is known.")


class RuleSettings(Frozen):
    """What to do about the flags that a condition holds for."""

    when: str = Field(description="SQL condition over what is known of a flag.")
    decision: DecisionName = Field(description="What to do.")
    why: str = Field(min_length=1, description="The reason, for people.")


class SuppressSettings(Frozen):
    """Flags that are not to be shown."""

    when: str = Field(description="SQL condition over what is known of a flag.")
    why: str = Field(min_length=1, description="The reason, for people.")


class AlertSettings(Frozen):
    """Which scored units become flags, and what is decided on them."""

    detector: DetectorName | None = Field(
        description="The detector whose scores are flagged; none: the first of `detectors`."
    )
    budget_per_day: int = Field(ge=1, description="Most flags a day, the strangest first.")
    false_positive_rate: float = Field(gt=0, le=1, description="Largest p-value that is flagged.")
    false_discovery_rate: Share | None = Field(
        description="Share of a day's flags that may be normal units; none: any."
    )
    costs: CostSettings | None = Field(
        description="Prices; what costs less unflagged is then not flagged."
    )
    precision: Share | None = Field(
        description="Least share of true flags, where reviews of the model's flags show what "
        "p-value has it; none: any."
    )
    rules: tuple[RuleSettings, ...] = Field(
        description="Rules in order; the first that holds decides, else the severity does."
    )
    suppress: tuple[SuppressSettings, ...] = Field(
        description="Allow lists and other flags not to be shown; the first that holds says why."
    )
    mute: tuple[str, ...] = Field(
        description="Fields and features; a flag with its strongest reason there is not shown."
    )
    mute_after: int | None = Field(
        ge=1,
        description="A field or feature that was the strongest reason of so many dismissed flags, "
        "and of no confirmed one, is muted for flags that nobody judged yet; none: is not.",
    )
    cool_down: Duration | None = Field(
        description="A flag is not shown where one of its user, at least as strange, was so "
        "shortly before; none: it is."
    )
    reasons: int = Field(ge=1, description="Reasons kept per flag.")
    language: Language = Field(
        description="Of the summaries of new flags, cases and shifts: en or zh."
    )

    @property
    def allowing(self) -> tuple[RuleSettings, ...]:
        """The rules up to the last that allows: they have a say in which units are flags."""
        allow = [number for number, rule in enumerate(self.rules) if rule.decision == "allow"]
        return self.rules[: max(allow, default=-1) + 1]

    @model_validator(mode="after")
    def _what_is_allowed_hangs_on_no_other_flag(self) -> Self:
        for number, rule in enumerate(self.allowing):
            if re.search(r"(?i)\bflags_before\b", rule.when):
                raise ValueError(
                    f"alerts.rules[{number}].when asks for flags_before, and it or a rule below it "
                    "allows, which has a say in what is a flag. Move it below the rules that allow."
                )
        return self


class CaseSettings(Frozen):
    """Which flags belong together."""

    window: Duration = Field(description="The longest pause between two flags of one case.")
    least_share: Share = Field(
        description="Flags of several users are linked by a device, network or counterparty if at "
        "least this share of those who use it within a window of these flags is flagged."
    )
    settled_after: Duration = Field(
        description="A case whose last flag is so much older than the last of all is left as it is."
    )
    on_driver: int = Field(
        ge=0, description="More links between flags than this are followed by Spark, in rounds."
    )

    @model_validator(mode="after")
    def _what_may_still_join_is_not_settled(self) -> Self:
        if self.settled_after < self.window:
            raise ValueError(
                "cases.settled_after is shorter than cases.window, within which flags still join. "
                "Set it to as long at least."
            )
        return self
