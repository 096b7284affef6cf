"""Native or real time: the rule that `processing: auto` follows for the rows of one model. A pure function.

Native is half the price and takes up to the provider's 24 hours; real time is sure. So rows go native where the
provider offers it, where there are enough of them to be worth a provider's batch, and where the window leaves the
provider a useful time after what the fall-back to real time needs at its end (core/native/fallback.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core.catalogue import ModelInfo
from core.states import Processing, ProviderType

#: The time that a provider should have for a shard, at the least, for a native batch to be worth a try.
USEFUL_SECONDS = 3600.0
#: From a cancel until the provider has stopped and what it finished can be read: OpenAI says up to ten minutes.
CANCEL_SECONDS = 600.0
#: Real time is planned with this much more time than the limits alone would take, and with so many seconds at least.
MARGIN = 1.5
LEAST_SECONDS = 60.0
#: Models that the catalogue does not list and that OpenAI's batch API is known to take (PROVIDERS.md 5.3).
EMBEDDING_MODELS = "text-embedding-"


@dataclass(frozen=True, slots=True)
class Choice:
    """How the rows of a lane are run, and why, in words for the batch's owner."""

    processing: Processing
    reason: str


def reserve_seconds(realtime_seconds: float) -> float:
    """The time before a window's end at which rows must leave the provider to make it in real time."""
    return CANCEL_SECONDS + planned_seconds(realtime_seconds)


def planned_seconds(realtime_seconds: float) -> float:
    """The time that is planned for rows that would take so long."""
    return max(LEAST_SECONDS, MARGIN * realtime_seconds)


def obstacle_to(asked: Processing, model: ModelInfo, *, tier_of_its_own: bool) -> str | None:
    """Why rows for this model cannot go through the provider's batch API, in words; None if they can.

    Parameters
    ----------
    tier_of_its_own : the rows name a service tier (`names_tier`), which batch APIs do not take.
    """
    if model.provider == ProviderType.OPENAI_COMPATIBLE:
        return "the provider is not known to offer a batch API"
    if tier_of_its_own:
        return "the rows name a service_tier, which batch APIs do not take"
    if model.known and not model.batch_supported:
        return f"{model.provider} does not offer {model.id} in its batch API"
    if not model.known and asked is Processing.AUTO and not model.id.startswith(EMBEDDING_MODELS):
        return f"it is not known whether {model.provider} offers {model.id} in its batch API"
    return None


def names_tier(params: Mapping[str, Any]) -> bool:
    """True if a request asks for a service tier of its own."""
    return params.get("service_tier") not in (None, "auto", "default")


def choose(
    asked: Processing,
    model: str,
    *,
    rows: int,
    min_rows: int,
    window_seconds: float,
    realtime_seconds: float,
    obstacle: str | None = None,
) -> Choice:
    """How the rows for one model are run.

    Parameters
    ----------
    asked : what the batch's owner asked for.
    rows : of this model in the batch.
    min_rows : fewer than this are not worth a provider's batch (`auto` only).
    window_seconds : the batch's completion window.
    realtime_seconds : what these rows would take in real time under the connection's limits.
    obstacle : why the provider's batch API does not take these rows at all (`obstacle_to`); None if it does.
    """
    if asked is Processing.REALTIME:
        return Choice(Processing.REALTIME, "asked for")
    if obstacle is not None:
        return Choice(Processing.REALTIME, obstacle)
    if asked is Processing.NATIVE:
        return Choice(Processing.NATIVE, "asked for")
    if rows < min_rows:
        counted = "1 row is" if rows == 1 else f"{rows:,} rows are"
        return Choice(Processing.REALTIME, f"{counted} fewer than the {min_rows:,} that are worth a native batch")
    needed = USEFUL_SECONDS + reserve_seconds(realtime_seconds)
    if window_seconds < needed:
        return Choice(
            Processing.REALTIME,
            f"the window of {_duration(window_seconds)} is shorter than the {_duration(needed)} that a native batch"
            " needs with time left to fall back",
        )
    return Choice(Processing.NATIVE, f"{rows:,} rows of {model} at half the price within {_duration(window_seconds)}")


def _duration(seconds: float) -> str:
    """3900 -> 1 h 5 min."""
    minutes = -(-int(seconds) // 60)
    hours, minutes = divmod(minutes, 60)
    return " ".join([f"{hours} h"] * bool(hours) + [f"{minutes} min"] * bool(minutes or not hours))
