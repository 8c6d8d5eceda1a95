"""A deployment as its record expects it."""

from __future__ import annotations

from datetime import UTC, datetime

from supply_chain.execution.deployment import DockerPlace, Expected
from supply_chain.model.container import (
    compute_configuration_digest,
    make_profile,
)
from supply_chain.model.declaration import Probe, Runtime

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
DIGEST, OTHER, PROXY = ("sha256:" + digit * 64 for digit in "abc")
HARDENED = make_profile(Runtime(writable=("/tmp",)))
PLACE = DockerPlace(reverse_proxy="2" * 64, proxy=PROXY, address="127.0.0.1", port=18080)
EXPECTED = Expected(
    environment="staging",
    application="hello",
    digest=DIGEST,
    container="1" * 64,
    name="staging-hello-aaaaaaaaaaaa-1",
    place=PLACE,
    probe=Probe(port=8080),
    settings={"GREETING": "hi"},
    profile=HARDENED,
    configuration=compute_configuration_digest({"GREETING": "hi"}, HARDENED),
)
