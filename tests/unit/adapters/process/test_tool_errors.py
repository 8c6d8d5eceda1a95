"""What tools say where a registry, AWS or the engine is the reason; each sentence is one that a tool really printed."""

import pytest

from supply_chain.adapters.process import tool_errors as told


@pytest.mark.parametrize(
    "said",
    [
        'Get "http://127.0.0.1:4566/v2/": dial tcp 127.0.0.1:4566: connect: connection refused',
        "read tcp 127.0.0.1:4->127.0.0.1:5: read: connection reset by peer",
        'Get "http://registry.test/v2/": EOF',
        "unexpected EOF",
        "dial tcp: lookup registry.test: no such host",
        "net/http: TLS handshake timeout",
        "context deadline exceeded",
        "unexpected status code 503 Service Unavailable",
        "TOOMANYREQUESTS: Rate exceeded",
        "received unexpected HTTP status: 500 Internal Server Error",
        "unexpected status from HEAD request to http://127.0.0.1:1/v2/curated/x/manifests/1: 507 Insufficient Storage",
        "unexpected status code 520",
        'failed to do request: Head "http://127.0.0.1:1/v2/curated/shop-403/manifests/1": connection refused',
        'failed to resolve reference "127.0.0.1:1/curated/access-denied:1": i/o timeout',
        "https response error StatusCode: 429, api error ThrottlingException",
    ],
)
def test_what_may_pass_is_told(said):
    """It is tried again."""
    assert told.passing(said) and not told.denied(said) and not told.skewed(said)


@pytest.mark.parametrize(
    "said",
    [
        "DENIED: not allowed",
        "denied: User is not authorized to perform ecr:PutImage",
        "UNAUTHORIZED: authentication required",
        "unexpected status from HEAD request: 403 Forbidden",
        "operation error KMS: Sign, AccessDeniedException",
        "no basic auth credentials",
    ],
)
def test_what_a_role_may_not_do_is_told(said):
    """Trying again does not help."""
    assert told.denied(said) and not told.passing(said)


@pytest.mark.parametrize("said", ["manifest unknown", "NAME_UNKNOWN: name unknown", "repository does not exist"])
def test_what_is_not_there_is_told(said):
    """Neither an outage nor a denial."""
    assert told.absent(said) and not told.passing(said) and not told.denied(said)


@pytest.mark.parametrize("said", ["Signature expired: now", "Signature not yet current", "RequestTimeTooSkewed"])
def test_a_wrong_clock_is_told(said):
    """AWS takes five minutes."""
    assert told.skewed(said) and not told.passing(said)


@pytest.mark.parametrize("said", ["cp: No space left on device", "write /x/data: no space left on device: unknown"])
def test_a_full_disk_is_told(said):
    """Whichever program found it."""
    assert told.full(said) and not told.passing(said)


@pytest.mark.parametrize(
    "said",
    [
        "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
        "failed to connect to the docker API at unix:///x.sock; check if the path is correct: no such file",
        "error during connect: Post /build: EOF",
        "rpc error: code = Unavailable desc = closing transport due to: connection error",
    ],
)
def test_an_engine_that_went_away_is_told(said):
    """Whatever it did meanwhile is not finished."""
    assert told.engine_lost(said)


@pytest.mark.parametrize(
    "said",
    [
        "curated/hello@sha256:" + "429503" * 10 + "a401 is not signed",
        "no signatures found for 127.0.0.1:1/curated/api-500@sha256:0",
        "no signatures found for 127.0.0.1:1/team-401/forbidden/denied@sha256:0",
        "no matching signatures: invalid signature when validating ASN.1 encoded signature",
        "the Dockerfile does not parse: unknown instruction: RUNN",
        "",
    ],
)
def test_anything_else_is_none_of_these(said):
    """A digest holds any digits, and a failed build is the build's."""
    reasons = (told.passing, told.denied, told.absent, told.skewed, told.engine_lost, told.full)
    assert not any(reason(said) for reason in reasons)
