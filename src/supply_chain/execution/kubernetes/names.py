"""The names that Kubernetes gives its objects."""

from __future__ import annotations

from typing import Annotated

from pydantic import StringConstraints

ObjectName = Annotated[
    str,
    StringConstraints(
        pattern=r"^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*$", max_length=253
    ),
]
"""A name of an object in Kubernetes: a DNS subdomain (RFC 1123)."""
Label = Annotated[str, StringConstraints(pattern=r"^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?$", max_length=63)]
"""A name of a namespace: a DNS label (RFC 1123)."""
