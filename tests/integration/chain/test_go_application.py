"""The chain of an application in Go, and of the base that it is built on, which has a compiler: minutes."""

from __future__ import annotations

from typing import Any

import docker
import httpx
import pytest

from tests.support.access import Outsider, application_url
from tests.support.command import Chain

pytestmark = pytest.mark.real


def test_chain_deploys_go_application_that_answers(chain: Chain, engine: docker.DockerClient) -> None:
    """Its image has nothing but the program."""
    ran = chain("clock")

    assert ran.status == 0, ran.stderr
    assert httpx.get(application_url(ran.result) + ran.result["probe"]["path"], timeout=10).status_code == 200
    assert engine.containers.get(ran.result["container"]).attrs["Image"] == ran.result["digest"]


def test_confidential_application_has_an_encrypted_copy(chain: Chain, ecr: Any, outsider: Outsider) -> None:
    """Its layers cannot be read without the key in KMS."""
    digest = chain("clock").result["digest"]
    tags = [
        i["imageTag"]
        for i in ecr.list_images(repositoryName="curated/clock", maxResults=1000)["imageIds"]
        if "imageTag" in i
    ]
    copies = [tag for tag in tags if "-encrypted-" in tag and digest.removeprefix("sha256:")[:12] in tag]

    assert copies
    layers = outsider.manifest(f"curated/clock:{copies[0]}")["layers"]
    assert layers and all(layer["mediaType"].endswith("+encrypted") for layer in layers)
