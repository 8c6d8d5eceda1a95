"""Pins of stand-ins for the pinned programs."""

from __future__ import annotations

from typing import Any

PLATFORMS = ("linux/amd64", "linux/arm64")


def program(version: str) -> bytes:
    """Return a program that prints its version and is large enough to be cut in two."""
    return f"#!/bin/sh\necho tool version {version}\nexit 0\n".encode() + b"#" * 600_000


def pin(name: str, **more: Any) -> dict[str, Any]:
    """Return the pin of a program written in Go, with a release for each platform."""
    return {
        "kind": "go",
        "version": "1.2.0",
        "minimum": "1.1.0",
        "below": "2.0.0",
        "version_args": ["version"],
        "version_pattern": r"^tool version (\d+(?:\.\d+)+)",
        "repository": f"project/{name}",
        "package": f"example.com/project/{name}",
        "stamp": "main.version={version}",
        "toolchain": "go1.27.3",
        "checksums": "checksums.txt",
        "files": {platform: {"name": f"{name}.tar.gz", "member": name} for platform in PLATFORMS},
    } | more
