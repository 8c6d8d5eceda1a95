"""Fixtures that all unit tests share: builders of model values, a registry with keys, programs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support.examples import tries
from tests.support.fixtures import make, threads, without_threads, world
from tests.support.program import Program

__all__ = ["make", "threads", "without_threads", "world"]  # fixtures

settings.register_profile("project", tries(100))
settings.load_profile("project")


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str], Program]:
    """Return a function that creates a program by name."""

    def named(name: str) -> Program:
        directory = tmp_path / f"program-{name}"
        directory.mkdir()
        return Program(directory, name)

    return named


@pytest.fixture
def docker_config(tmp_path: Path) -> Callable[[], AbstractContextManager[Path]]:
    """Return a context manager for a directory with registry credentials, which is removed afterwards."""

    @contextlib.contextmanager
    def config() -> Iterator[Path]:
        path = tmp_path / "docker-config"
        path.mkdir()
        try:
            yield path
        finally:
            path.rmdir()

    return config
