"""Registry failures: outages before, during and after a push, throttling, and incomplete responses."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest

from supply_chain.adapters.aws.ecr import Ecr
from supply_chain.adapters.image.packaged_files import PackagedFiles
from supply_chain.adapters.registry.client import Registry
from supply_chain.adapters.registry.http import LONGEST_WAIT
from supply_chain.adapters.tools import Toolbox
from supply_chain.adapters.tools.cosign import Cosign
from supply_chain.adapters.tools.crane import Crane
from supply_chain.adapters.tools.syft import Syft
from supply_chain.errors import ImageDamaged, RegistryUnavailable, SupplyChainError
from supply_chain.evidence.examination import Examination
from supply_chain.model.image import ImageRef, list_blobs
from supply_chain.model.tier import TierName
from tests.integration.unreliable_services.sandbox import subject_of
from tests.support.application import Application
from tests.support.fault_proxy import Fault

from .sandbox import Sandbox

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("serving")]

Of = Callable[[TierName], Registry]


def test_registry_outage_before_a_push_fails_the_run(sandbox: Sandbox, application: Application) -> None:
    """No image of the revision is offered."""
    revision = application.next_revision()
    with sandbox.proxy.broken(Fault(r" /v2/", status=503, body=b"away")):
        ran = sandbox.cscm("chain", str(application.path))

    assert ran.status == 1
    assert "[registry.unavailable]" in ran.error and "503" in ran.error, ran.error
    assert sandbox.last_run()["state_type"] == "FAILED"
    assert not [t for t in sandbox.tags(f"dev/{application.path.name}") if t.startswith(revision[:7])]


def test_truncated_layer_is_not_curated(sandbox: Sandbox, candidate: ImageRef) -> None:
    """The registry claims that the response is complete, but the digest differs."""
    layer = list_blobs(sandbox.manifests(candidate.repository)[candidate.digest], candidate)[-1]
    with sandbox.proxy.broken(Fault(rf"GET /v2/curated/\w+/blobs/{layer.digest}", keep=100, lie=True)):
        ran = sandbox.cscm("curate", str(candidate), "--force")

    assert ran.status == 1
    assert "[image.damaged]" in ran.error and "Do not use the image" in ran.error, ran.error
    assert sandbox.last_run()["state_type"] == "FAILED"
    assert not sandbox.released(f"curated/{candidate.application}", candidate.digest)


def test_damaged_layer_is_not_retryable_but_closed_connection_is(
    sandbox: Sandbox, registry: Of, candidate: ImageRef
) -> None:
    """Repeating the request cannot repair wrong content."""
    ours = registry(TierName.DEVELOPMENT)
    layer = list_blobs(ours.manifest(candidate), candidate)[-1]
    verify = ours.verify_blob, candidate.repository, layer.digest, layer.size
    with sandbox.proxy.broken(Fault("GET /v2/.*/blobs/", keep=100)) as asked, pytest.raises(RegistryUnavailable) as cut:
        verify[0](*verify[1:])
    with sandbox.proxy.broken(Fault("GET /v2/.*/blobs/", keep=100, lie=True)) as again, pytest.raises(ImageDamaged):
        verify[0](*verify[1:])

    verify[0](*verify[1:])
    assert (len(asked), len(again)) == (1, 1)
    assert cut.value.retryable and not ImageDamaged.retryable


def test_client_waits_as_long_as_retry_after_says(sandbox: Sandbox, registry: Of, candidate: ImageRef) -> None:
    """The request is repeated after the given time and not before."""
    fault = Fault("GET /v2/.*/manifests/", status=429, headers={"Retry-After": "2"}, times=1)
    began = time.monotonic()
    with sandbox.proxy.broken(fault):
        registry(TierName.DEVELOPMENT).manifest(candidate)

    assert 2 <= time.monotonic() - began < LONGEST_WAIT


def test_client_gives_up_after_long_or_repeated_failures(sandbox: Sandbox, registry: Of, candidate: ImageRef) -> None:
    """The error names the wait or the status."""
    hour = Fault("GET /v2/.*/manifests/", status=429, headers={"Retry-After": "3600"})
    with sandbox.proxy.broken(hour), pytest.raises(RegistryUnavailable, match="asks to come back in 3600 s"):
        registry(TierName.DEVELOPMENT).manifest(candidate)
    never = Fault("GET /v2/.*/manifests/", status=500)
    with sandbox.proxy.broken(never), pytest.raises(RegistryUnavailable, match="answered 500"):
        registry(TierName.DEVELOPMENT).manifest(candidate)

    assert len(hour.hits) == 1 and LONGEST_WAIT < 3600
    assert len(never.hits) == 4
    waits = [later - earlier for earlier, later in pairwise(never.hits)]
    assert all(wait >= least for wait, least in zip(waits, (0.5, 1, 2), strict=True))


@pytest.mark.parametrize("fault", [Fault(" /v2/", status=503), Fault(" /v2/")], ids=["503", "no answer"])
def test_every_registry_tool_reports_an_outage_as_retryable(
    sandbox: Sandbox,
    toolbox: Toolbox,
    ecr: Callable[[TierName], Ecr],
    cosign: Callable[[TierName], Cosign],
    first: ImageRef,
    fault: Fault,
) -> None:
    """It must not look like a fault of the image, the scanner or the signature. All tools repeat at the same time."""
    host, config = sandbox.proxy.host, ecr(TierName.CURATION).docker_config
    asks: dict[str, Callable[[], object]] = {
        "crane": lambda: Crane(toolbox.find("crane"), host, config, True).copy(first, "curated/other", "tag"),
        "syft": lambda: Syft(
            toolbox.find("syft"), host, config, True, examine=lambda ref: (Examination(), PackagedFiles())
        ).make_image_sbom(first),
        "cosign": lambda: cosign(TierName.CURATION).verify_image(first, public_key(sandbox)),
    }
    asks["cosign"]()
    with sandbox.proxy.broken(fault), ThreadPoolExecutor(len(asks)) as pool:
        raised = dict(zip(asks, pool.map(error_of, asks.values()), strict=True))

    assert {tool: type(error) for tool, error in raised.items()} == dict.fromkeys(asks, RegistryUnavailable), raised


def error_of(ask: Callable[[], object]) -> SupplyChainError | None:
    try:
        ask()
    except SupplyChainError as error:
        return error
    return None


def public_key(sandbox: Sandbox) -> str:
    return sandbox.laptop.identities[TierName.CURATION].public_key


def test_outage_after_a_push_leaves_no_partial_statement(sandbox: Sandbox, registry: Of) -> None:
    """The referrer is written last, so earlier uploads have no effect without it."""
    ours = registry(TierName.DEVELOPMENT)
    subject = subject_of(sandbox, ours, "dev/halfway")
    with (
        sandbox.proxy.broken(Fault("PUT /v2/.*/manifests/", status=500)) as asked,
        pytest.raises(RegistryUnavailable),
    ):
        ours.attach(subject, "application/vnd.example", b"content", {})
    assert ours.referrers(subject) == ()
    with sandbox.proxy.down(), pytest.raises(RegistryUnavailable, match="did not answer"):
        ours.attach(subject, "application/vnd.example", b"content", {})

    ours.attach(subject, "application/vnd.example", b"content", {})
    assert len(ours.referrers(subject)) == 1
    assert len([each for each in asked if each.startswith("PUT /v2/dev/halfway/manifests/")]) == 1
    refused = sandbox.cscm("curate", str(subject))
    assert refused.status == 3, refused.stderr
    assert "provenance.missing" in refused.stdout
    assert sandbox.last_run()["state_name"] == "Refused"


def test_expired_registry_token_is_replaced_once(sandbox: Sandbox, registry: Of, candidate: ImageRef) -> None:
    """The registry may report it as 401 or 403."""
    ours = registry(TierName.DEVELOPMENT)
    ours.referrers(candidate)
    body = b'{"errors": [{"code": "DENIED", "message": "Your authorization token has expired. Reauthenticate."}]}'
    for fault in (Fault("GET /v2/", status=401, times=1), Fault("GET /v2/", status=403, body=body, times=1)):
        with sandbox.proxy.broken(fault) as asked:
            ours.referrers(candidate)
        assert [each.split()[1].startswith("/v2/") for each in asked] == [True, False, True], asked
