"""An application in a sandbox of its own: one revision that serves, and one that waits for curation."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import docker
import httpx
import pytest

from cscm_laptop.home import Home
from supply_chain.adapters.aws.ecr import Ecr
from supply_chain.adapters.aws.kms import Kms
from supply_chain.adapters.docker.engine import list_images
from supply_chain.adapters.registry.client import Registry
from supply_chain.adapters.registry.http import RegistryHttp
from supply_chain.adapters.tools import Toolbox
from supply_chain.adapters.tools.cosign import Cosign
from supply_chain.adapters.tools.grype import Grype
from supply_chain.adapters.vulndb import has_distribution, make_grype_environment, read_database
from supply_chain.evidence.store import EvidenceStore
from supply_chain.model.container import OWNER as OWNED
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import TierName
from tests.integration.unreliable_services.sandbox import NAME, PASSING, Troubled, place
from tests.support.access import toolbox_in
from tests.support.application import Application
from tests.support.command import cscm
from tests.support.place import clear, free_port
from tests.support.signed_project import sign_project

from .sandbox import OWNER, PLACE, Sandbox
from .sandbox import sandbox as made


@pytest.fixture(scope="session")
def sandbox(engine: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    bases = cscm("bases", "proxy")
    assert bases.status == 0, bases.stderr
    with made(tmp_path_factory.mktemp("sandbox")) as it:
        yield it
    clear(engine, f"{OWNED}={OWNER}")
    for image in list_images(engine.api):
        for name in (*(image["RepoTags"] or ()), *(image["RepoDigests"] or ())):
            if name.startswith((it.proxy.host, f"cscm.local/{NAME}")):
                with contextlib.suppress(docker.errors.ImageNotFound):  # removed with another of its names
                    engine.images.remove(name, force=True)


@pytest.fixture(scope="session")
def application(home: Home, sandbox: Sandbox, program: Path, tmp_path_factory: pytest.TempPathFactory) -> Application:
    it = Application(NAME, tmp_path_factory.mktemp("source") / NAME, free_port())
    it.write(program, PLACE)
    sandbox.document.write_text(place(it.port))
    sign_project(home, sandbox.directory / "project")
    return it


@pytest.fixture(scope="session")
def first(sandbox: Sandbox, application: Application) -> ImageRef:
    """A revision that went through the whole chain and serves."""
    application.next_revision()
    ran = sandbox.cscm("chain", str(application.path), "--json")
    assert ran.status == 0, ran.stderr
    return ImageRef(repository=f"curated/{NAME}", digest=ran.result["digest"])


@pytest.fixture
def serving(first: ImageRef, application: Application) -> Iterator[None]:
    """Checks that the previous deployment serves after the test."""
    yield
    assert httpx.get(application.url).status_code == 200


@pytest.fixture(scope="session")
def troubled(sandbox: Sandbox, application: Application, first: ImageRef) -> Troubled:
    application.next_revision()
    with sandbox.proxy.broken(*PASSING):
        ran = sandbox.cscm("build", str(application.path), "--json", "--verbose")
    assert ran.status == 0, ran.stderr + ran.stdout
    return Troubled(ran, ImageRef.model_validate(ran.result["ref"]))


@pytest.fixture(scope="session")
def candidate(troubled: Troubled) -> ImageRef:
    """An offered image that is not curated."""
    return troubled.ref


@pytest.fixture(scope="session")
def ecr(sandbox: Sandbox) -> Callable[[TierName], Ecr]:
    """The ECR client of a tier behind the proxy, created as the tier's block does."""
    return functools.cache(lambda tier: Ecr(sandbox.session(tier).client("ecr"), sandbox.proxy.host))


@pytest.fixture(scope="session")
def registry(sandbox: Sandbox, ecr: Callable[[TierName], Ecr]) -> Callable[[TierName], Registry]:
    """A function that returns a new registry client without a cache."""
    return lambda tier: Registry(
        RegistryHttp(sandbox.proxy.host, ecr(tier).credentials, insecure=True, renew=ecr(tier).forget_token)
    )


@pytest.fixture(scope="session")
def kms(sandbox: Sandbox) -> Callable[[TierName], Kms]:
    return functools.cache(lambda tier: Kms(sandbox.session(tier).client("kms")))


@pytest.fixture
def toolbox(sandbox: Sandbox) -> Toolbox:
    return toolbox_in(sandbox.tools)


@pytest.fixture
def cosign(sandbox: Sandbox, toolbox: Toolbox, ecr: Callable[[TierName], Ecr]) -> Callable[[TierName], Cosign]:
    def of(tier: TierName) -> Cosign:
        key = f"awskms:///{sandbox.laptop.identities[tier].signing_alias}"
        config, environment = ecr(tier).docker_config, sandbox.session(tier).environment
        return Cosign(toolbox.find("cosign"), key, sandbox.proxy.host, config, True, environment)

    return of


@pytest.fixture
def store(
    sandbox: Sandbox, registry: Callable[[TierName], Registry], cosign: Callable[[TierName], Cosign]
) -> Callable[..., EvidenceStore]:
    """A function that returns the evidence store of a tier, with a clock."""
    trusted = {tier: identity.public_key for tier, identity in sandbox.laptop.identities.items()}

    def of(tier: TierName, now: Callable[[], datetime] = clock) -> EvidenceStore:
        return EvidenceStore(tier, registry(tier), cosign(tier), trusted, now)

    return of


@pytest.fixture
def grype(sandbox: Sandbox) -> Callable[[], Grype]:
    """A function that returns the scanner in its present state."""

    def now() -> Grype:
        tool = toolbox_in(sandbox.tools).find("grype")
        held = sandbox.database
        environment = make_grype_environment(held)
        return Grype(tool, environment, lambda: read_database(held).facts, lambda d: has_distribution(held, d), clock)

    return now


def clock() -> datetime:
    return datetime.now(UTC)
