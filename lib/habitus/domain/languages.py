"""The languages that summaries are written in."""

from collections.abc import Mapping

from habitus.domain.chinese import Chinese
from habitus.domain.wording import English, Wording
from habitus.setting_types import Language

WORDINGS: Mapping[Language, Wording] = {"en": English(), "zh": Chinese()}
