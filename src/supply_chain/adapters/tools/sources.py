"""Reads the sources of the programs of this project, which identify the programs built from them."""

from __future__ import annotations

import hashlib
from pathlib import Path

from supply_chain.adapters.tools.pins import SourcePin

SOURCES = ("*.go", "go.mod", "go.sum")
PACKAGES = Path(__file__).parents[3]
"""Directory that contains the project's Python packages."""


def read_source_files(pin: SourcePin) -> dict[str, bytes]:
    """Return the sources of a program of this project, by file name."""
    directory = PACKAGES / pin.package
    files = sorted(file for pattern in SOURCES for file in directory.glob(pattern))
    return {file.name: file.read_bytes() for file in files if not file.name.endswith("_test.go")}


def compute_source_digest(pin: SourcePin) -> str:
    """Return 64 hexadecimal digits that identify everything a build of the program depends on."""
    hasher = hashlib.sha256(f"{pin.toolchain}\0{pin.fill_version(pin.stamp)}\0".encode())
    for name, content in read_source_files(pin).items():
        hasher.update(f"{name}\0{len(content)}\0".encode() + content)
    return hasher.hexdigest()
