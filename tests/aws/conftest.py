"""The contract with ECR, which runs unchanged on the emulator and on AWS.

It runs on an emulator of its own. With CSCM_AWS_TEST=1 (`make test-aws`) it runs on AWS, which needs credentials,
a region, and in CSCM_AWS_PREFIX the prefix of the names of everything that the tests create and remove there.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest

from cscm_laptop.home import Home
from tests.aws.model import hold_to_the_model
from tests.support.cloud import Cloud, Repository, credentials
from tests.support.command import ROOT
from tests.support.emulator import Emulator, crane, python

__all__ = ["crane", "python"]  # fixtures

PREFIX = re.compile(r"[a-z][a-z0-9-]{1,30}-")
RESTORE = 25 * 60.0
"""Seconds; AWS restores within 20 minutes (Amazon ECR User Guide, "Restoring an image")."""

RULE = 60.0
"""Seconds until a new rule is in force on AWS; its documentation says only that it takes a short time."""


def on_aws() -> bool:
    return os.environ.get("CSCM_AWS_TEST") == "1"


def pytest_configure() -> None:
    """Report missing settings for a run on AWS before any test starts."""
    if not on_aws():
        return
    session, prefix = boto3.Session(), os.environ.get("CSCM_AWS_PREFIX", "")
    lacking = [
        what
        for what, value in (
            ("credentials (AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)", session.get_credentials()),
            ("a region (AWS_REGION or AWS_DEFAULT_REGION)", session.region_name or os.environ.get("AWS_REGION")),
            ("CSCM_AWS_PREFIX, such as cscm-test- (lower case, ends in a hyphen)", PREFIX.fullmatch(prefix)),
        )
        if not value
    ]
    if lacking:
        raise pytest.UsageError(
            f"The tests cannot run on AWS without {'; '.join(lacking)}.\n"
            "What they make there begins with that prefix, and they remove it. On the laptop alone: make test-real."
        )


@pytest.fixture(scope="session")
def home() -> Home:
    return Home.find(start=ROOT)


@pytest.fixture(scope="session")
def cloud(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """AWS if it is requested, else an emulator."""
    if on_aws():
        session = boto3.Session(region_name=os.environ.get("AWS_REGION"))
        yield Cloud(
            session.client,
            os.environ["CSCM_AWS_PREFIX"],
            RESTORE,
            RULE,
            lambda repository: f"https://{repository['repositoryUri'].partition('/')[0]}",
        )
        return
    with emulated(request, tmp_path_factory.mktemp("emulator")) as emulator:
        yield Cloud(
            emulator.client,
            "cscm-test-",
            30.0,
            0.0,
            lambda _: f"http://{emulator.host}",
        )


@contextlib.contextmanager
def emulated(request: pytest.FixtureRequest, directory: Path) -> Iterator[Emulator]:
    emulator = Emulator(request.getfixturevalue("python"), request.getfixturevalue("crane"), directory)
    emulator.start()
    try:
        yield emulator
    finally:
        emulator.end()
        print((directory / "log").read_text())


@pytest.fixture(scope="session")
def ecr(cloud: Cloud) -> Any:
    """The ECR client, with every response checked against botocore's model."""
    return hold_to_the_model(cloud.client("ecr"), strict=not on_aws())


@pytest.fixture
def make(cloud: Cloud, ecr: Any) -> Iterator[Callable[..., Repository]]:
    """A function that creates repositories; they and their content are removed after the test."""
    with contextlib.ExitStack() as stack:

        def made(**settings: Any) -> Repository:
            name = cloud.name(f"{secrets.token_hex(2)}/app")
            repository = ecr.create_repository(repositoryName=name, **settings)["repository"]
            stack.callback(removed, ecr, name)
            client = httpx.Client(
                base_url=cloud.registry_url(repository), auth=credentials(ecr), trust_env=False, timeout=60
            )
            return Repository(cloud, ecr, name, stack.enter_context(client))

        yield made


@pytest.fixture
def repository(make: Callable[..., Repository]) -> Repository:
    """An empty repository with mutable tags."""
    return make()


def removed(ecr: Any, name: str) -> None:
    """Remove a repository. Delete archived images by digest first, and indexes before the images that they list."""
    pages = ecr.get_paginator("describe_images").paginate(repositoryName=name, filter={"imageStatus": "ANY"})
    images = [each for page in pages for each in page["imageDetails"]]
    images.sort(key=lambda each: "index" not in each["imageManifestMediaType"])
    for at in range(0, len(images), 50):
        ids = [{"imageDigest": each["imageDigest"]} for each in images[at : at + 50]]
        ecr.batch_delete_image(repositoryName=name, imageIds=ids)
    ecr.delete_repository(repositoryName=name, force=True)
