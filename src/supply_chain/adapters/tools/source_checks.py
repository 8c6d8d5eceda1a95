"""The checks of a snapshot that need no image: secrets, source and Dockerfile, each by its tool."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import cache

from supply_chain.adapters.process.command import Tool
from supply_chain.adapters.tools.bandit import list_source_tools, scan_source
from supply_chain.adapters.tools.hadolint import lint_dockerfile, list_lint_tools
from supply_chain.adapters.tools.secrets import find_secrets, list_secret_tools
from supply_chain.development.review import apply_reviews
from supply_chain.development.snapshot import Snapshot
from supply_chain.development.test import Planned
from supply_chain.evidence.checks import Check


def plan_source_checks(find: Callable[[str], Tool], snapshot: Snapshot, now: Callable[[], datetime]) -> list[Planned]:
    """Return these checks, slowest first, each of which is made once.

    `find` returns a tool by its name, or raises `ToolMissing`.
    """
    context, reviewed = snapshot.context, snapshot.declaration.reviewed
    secrets, bandit, hadolint = (find(name) for name in ("detect-secrets", "bandit", "hadolint"))
    return [
        Planned(
            Check.SECRETS,
            list_secret_tools(secrets),
            cache(lambda: apply_reviews(find_secrets(secrets, context, now, snapshot.outside_context), reviewed)),
        ),
        Planned(
            Check.SOURCE,
            list_source_tools(bandit),
            cache(lambda: apply_reviews(scan_source(bandit, context, now), reviewed)),
        ),
        Planned(
            Check.DOCKERFILE,
            list_lint_tools(hadolint),
            cache(lambda: lint_dockerfile(hadolint, snapshot.dockerfile, now)),
        ),
    ]
