"""A builder that does other work while it builds."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass

from supply_chain.adapters.process.cancellation import get_current_cancellation
from supply_chain.development.build import Builder, BuildOrder, BuildResult


@dataclass(frozen=True)
class ConcurrentBuilder:
    """Builds with `builder`, and calls `work` meanwhile; see `development.build.Builder`.

    An error of the work is ignored: whoever needs its result does it again. If the build fails, the work is ended.
    """

    builder: Builder
    work: Callable[[], object]

    def build(self, *orders: BuildOrder) -> tuple[BuildResult, ...]:
        """Build the orders; return once the work has ended too."""
        with get_current_cancellation().nested() as scope, ThreadPoolExecutor(1) as pool:
            done = pool.submit(copy_context().run, self.work)
            try:
                results = self.builder.build(*orders)
            except BaseException:
                scope.cancel()
                raise
            done.exception()
        return results

    def versions(self) -> dict[str, str]:
        """Return the versions of builder and engine."""
        return self.builder.versions()
