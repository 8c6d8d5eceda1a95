"""Records of dpkg in an image."""

from __future__ import annotations

STATUS = "var/lib/dpkg/status"
"""Path of its database in an image."""


def record(
    version: str = "2.0-1",
    name: str = "hat",
    architecture: str = "amd64",
    source: str = "hats (2.0)",
    status: str = "install ok installed",
) -> bytes:
    """Return a paragraph of dpkg's database."""
    about = f"Package: {name}\nStatus: {status}\nArchitecture: {architecture}\n"
    return f"{about}Source: {source}\nVersion: {version}\nDescription: a hat\n Wear it.\n\n".encode()
