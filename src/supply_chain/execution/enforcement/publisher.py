"""A publisher of verdicts that also lets clusters know: what the deploy gate says decides which images they admit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from supply_chain.evidence.store import Publisher
from supply_chain.evidence.summary import Summary
from supply_chain.model.image import ImageRef


@dataclass(frozen=True)
class EnforcedPublisher:
    """Publishes verdicts, and calls `follow` with the image and the environment after one of the deploy gate."""

    published: Publisher
    follow: Callable[[ImageRef, str], object]

    def prepare(self, ref: ImageRef, predicate: Mapping[str, Any], now: datetime) -> Callable[[], None]:
        """Sign a verdict about an image, and return the function that publishes it; both raise as `Publisher`.

        The function also raises the errors of `follow`. Repeat it then: an admitted image may be missing in a cluster,
        or a refused one may still be admitted there.
        """
        publish = self.published.prepare(ref, predicate, now)
        environment = Summary.model_validate(predicate).cscm.environment

        def publish_everywhere() -> None:
            publish()
            if environment:
                self.follow(ref, environment)

        return publish_everywhere

    def find_newer_opposite(self, ref: ImageRef, predicate: Mapping[str, Any]) -> datetime | None:
        """Return the time of the published verdict if it is later than this one and says the opposite of an image."""
        return self.published.find_newer_opposite(ref, predicate)

    def admits(self, ref: ImageRef, predicate: Mapping[str, Any], now: datetime) -> bool:
        """Return whether what is published for the gate and the environment of this verdict admits the image now."""
        return self.published.admits(ref, predicate, now)
