"""Tests of how tool output is classified; each sentence was printed by a real tool."""

import pytest

from supply_chain.adapters.process import tool_errors


@pytest.mark.parametrize(
    "output",
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
def test_is_transient_recognises_transient_errors(output):
    """A transient error is retried."""
    assert (
        tool_errors.is_transient(output) and not tool_errors.is_denied(output) and not tool_errors.is_clock_skew(output)
    )


@pytest.mark.parametrize(
    "output",
    [
        "DENIED: not allowed",
        "denied: User is not authorized to perform ecr:PutImage",
        "UNAUTHORIZED: authentication required",
        "unexpected status from HEAD request: 403 Forbidden",
        "operation error KMS: Sign, AccessDeniedException",
        "no basic auth credentials",
    ],
)
def test_is_denied_recognises_missing_permissions(output):
    """A retry does not help."""
    assert tool_errors.is_denied(output) and not tool_errors.is_transient(output)


@pytest.mark.parametrize("output", ["manifest unknown", "NAME_UNKNOWN: name unknown", "repository does not exist"])
def test_absent_recognises_missing_images_and_repositories(output):
    """A missing image is neither an outage nor a denial."""
    assert (
        tool_errors.is_not_found(output) and not tool_errors.is_transient(output) and not tool_errors.is_denied(output)
    )


@pytest.mark.parametrize("output", ["Signature expired: now", "Signature not yet current", "RequestTimeTooSkewed"])
def test_skewed_recognises_wrong_clock(output):
    """AWS tolerates a difference of five minutes."""
    assert tool_errors.is_clock_skew(output) and not tool_errors.is_transient(output)


@pytest.mark.parametrize("output", ["cp: No space left on device", "write /x/data: no space left on device: unknown"])
def test_full_recognises_full_disk(output):
    """Any program may report it."""
    assert tool_errors.is_disk_full(output) and not tool_errors.is_transient(output)


@pytest.mark.parametrize(
    "output",
    [
        "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
        "failed to connect to the docker API at unix:///x.sock; check if the path is correct: no such file",
        "error during connect: Post /build: EOF",
        "rpc error: code = Unavailable desc = closing transport due to: connection error",
    ],
)
def test_engine_lost_recognises_unreachable_docker_engine(output):
    """Whatever the engine was doing is not finished."""
    assert tool_errors.is_engine_lost(output)


@pytest.mark.parametrize(
    "output",
    [
        "curated/hello@sha256:" + "429503" * 10 + "a401 is not signed",
        "no signatures found for 127.0.0.1:1/curated/api-500@sha256:0",
        "no signatures found for 127.0.0.1:1/team-401/forbidden/denied@sha256:0",
        "no matching signatures: invalid signature when validating ASN.1 encoded signature",
        "the Dockerfile does not parse: unknown instruction: RUNN",
        "",
    ],
)
def test_other_output_matches_no_tool_error(output):
    """A digest or a name may contain the digits of a status, and a failed build is an error of the build."""
    reasons = (
        tool_errors.is_transient,
        tool_errors.is_denied,
        tool_errors.is_not_found,
        tool_errors.is_clock_skew,
        tool_errors.is_engine_lost,
        tool_errors.is_disk_full,
    )
    assert not any(reason(output) for reason in reasons)


@pytest.mark.parametrize("line", ["a" * 10**6, "a" * 10**6 + " no space left on device"])
def test_long_line_is_read_once(line):
    """Read again from each character, a line of a megabyte would take hours, in which nothing can end the run."""
    assert tool_errors.is_disk_full(line) is line.endswith("device")
    assert not tool_errors.is_transient(line)
