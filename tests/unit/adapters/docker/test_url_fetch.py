"""Tests of fetching files by URL: only from public hosts, also after a redirect, and with the declared checksum."""

import contextlib
import datetime
import hashlib
import ipaddress
import socket
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from supply_chain.adapters.docker import url_fetch as fetch
from supply_chain.adapters.docker.public_hosts import is_public, resolve_public_addresses
from supply_chain.adapters.docker.url_fetch import Fetcher
from supply_chain.adapters.files.free_space import free_bytes
from supply_chain.adapters.process.cancellation import Cancellation, current
from supply_chain.development.build import DownloadAllowance
from supply_chain.errors import Cancelled, DiskFull, DockerfileRefused, FetchFailed

CONTENT = b"what was declared"
SUM = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


def certificate(directory):
    """Create a key and a certificate for files.test, other.test and 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "files.test")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("files.test"), x509.DNSName("other.test"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    private = key.private_bytes(encoding, form, serialization.NoEncryption())
    (directory / "both.pem").write_bytes(private + made.public_bytes(encoding))
    (directory / "ca.pem").write_bytes(made.public_bytes(encoding))


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Serve `answers` (path to status, headers, body, or to a function that writes to the connection) by HTTPS;
    files.test counts as a public host."""
    certificate(tmp_path)
    answers: dict[str, Any] = {}
    asked: list[tuple[str | None, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.headers["Host"], self.path))
            answer = answers.get(self.path, (404, {}, b""))
            if callable(answer):
                with contextlib.suppress(OSError):  # the client has closed the connection
                    answer(self.wfile)
                return
            status, headers, body = answer
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    served = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "both.pem")
    served.socket = context.wrap_socket(served.socket, server_side=True)
    threading.Thread(target=served.serve_forever, args=(0.01,), daemon=True).start()

    def addresses(host, port, resolve):
        return ("127.0.0.1",) if host == "files.test" else resolve_public_addresses(host, port, resolve)

    monkeypatch.setattr(fetch, "resolve_public_addresses", addresses)
    yield served.server_port, answers, asked
    served.shutdown()
    served.server_close()


def get(tmp_path, url, checksum=SUM, timeout=30, allowance=None, name="fetched", **settings):
    target, allowance = tmp_path / name, allowance or DownloadAllowance(1024)
    Fetcher(tmp_path / "ca.pem", **settings).fetch(url, checksum, target, timeout, allowance)
    return target.read_bytes()


def test_fetch_writes_file_with_declared_checksum(server, tmp_path):
    """Only the owner can read the file, as with BuildKit."""
    port, answers, asked = server
    answers["/a"] = (200, {}, CONTENT)

    assert get(tmp_path, f"https://files.test:{port}/a") == CONTENT
    assert asked == [(f"files.test:{port}", "/a")]
    assert (tmp_path / "fetched").stat().st_mode & 0o777 == 0o600


def test_fetch_follows_redirects_among_public_hosts(server, tmp_path):
    """The redirects use HTTPS and may name a path only."""
    port, answers, _ = server
    answers["/a"] = (302, {"Location": "/b"}, b"")
    answers["/b"] = (307, {"Location": f"https://files.test:{port}/c"}, b"")
    answers["/c"] = (200, {}, CONTENT)

    assert get(tmp_path, f"https://files.test:{port}/a") == CONTENT


@pytest.mark.parametrize(
    ("location", "error"),
    [
        ("https://127.0.0.1:PORT/c", DockerfileRefused),
        ("https://127.1:PORT/c", DockerfileRefused),
        ("https://localhost:PORT/c", DockerfileRefused),
        ("https://169.254.169.254/latest", DockerfileRefused),
        ("//127.0.0.1:PORT/c", DockerfileRefused),
        ("http://files.test:PORT/c", FetchFailed),
        ("file:///etc/passwd", FetchFailed),
        ("", FetchFailed),
        ("/a", FetchFailed),
        ("https://[", FetchFailed),
        ("//[::1", FetchFailed),
        ("https://[x]/c", FetchFailed),
        ("https://files.test:port/c", FetchFailed),
        ("https://files.test:99999/c", FetchFailed),
        ("https://files.test:PORT/\xe9", FetchFailed),
    ],
)
def test_fetch_refuses_redirect_to_other_than_public_https(server, tmp_path, location, error):
    """The redirect is refused even if the content would match the checksum."""
    port, answers, asked = server
    answers["/a"] = (302, {"Location": location.replace("PORT", str(port))}, b"")
    answers["/c"] = (200, {}, CONTENT)

    with pytest.raises(error):
        get(tmp_path, f"https://files.test:{port}/a")
    assert {path for _, path in asked} == {"/a"}


def test_fetch_connects_to_the_address_that_was_checked(server, tmp_path):
    """A second resolution could return the loopback address (DNS rebinding)."""
    port, answers, asked = server
    answers["/a"] = (200, {}, CONTENT)

    with pytest.raises(DockerfileRefused, match=r"other\.test, which is 127\.0\.0\.1"):
        get(tmp_path, f"https://other.test:{port}/a", resolve=lambda host, port: ["127.0.0.1"])
    assert asked == []


@pytest.mark.parametrize(
    ("answer", "settings", "why"),
    [
        ((200, {}, b"other"), {}, "which is declared"),
        ((404, {}, b""), {}, "answered with 404"),
        ((200, {}, CONTENT), {"most": 3}, "more than 3 bytes"),
    ],
)
def test_fetch_fails_for_wrong_missing_or_too_large_content(server, tmp_path, answer, settings, why):
    """The message names the reason."""
    port, answers, _ = server
    answers["/a"] = answer

    with pytest.raises(FetchFailed, match=why):
        get(tmp_path, f"https://files.test:{port}/a", **settings)


def test_fetch_does_not_reveal_checksum_of_other_content(server, tmp_path):
    """The author of a declaration could learn from it what a host answers only this machine."""
    port, answers, _ = server
    answers["/a"] = (200, {}, b"other")

    with pytest.raises(FetchFailed) as error:
        get(tmp_path, f"https://files.test:{port}/a")
    assert SUM in str(error.value)
    assert hashlib.sha256(b"other").hexdigest() not in str(error.value)


def in_pieces(start, piece, end, *, then=lambda: None):
    """Return an answer that sends something every 0.05 seconds and is complete after three seconds."""

    def answer(file):
        file.write(start)
        then()
        for _ in range(60):
            file.write(piece)
            time.sleep(0.05)
        file.write(end)

    return answer


NOT_FOUND = b"HTTP/1.1 404 Not Found\r\n"
PIECES = [
    (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n", NOT_FOUND + b"\r\n"),
    (NOT_FOUND + b"X: ", b"x", b"\r\n\r\n"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 60\r\n\r\n", b"x", b""),
]


@pytest.mark.parametrize("pieces", PIECES)
def test_fetch_ends_at_its_timeout(server, tmp_path, pieces):
    """The server may send something again and again, even before the response begins."""
    port, answers, _ = server
    answers["/a"] = in_pieces(*pieces)

    with pytest.raises(FetchFailed, match="not fetched in the time that a build may take"):
        get(tmp_path, f"https://files.test:{port}/a", timeout=0.5)


@pytest.mark.parametrize("pieces", PIECES)
def test_fetch_ends_when_its_run_is_cancelled(server, tmp_path, pieces):
    """The next received bytes end the fetch."""
    port, answers, _ = server
    scope = Cancellation()
    answers["/a"] = in_pieces(*pieces, then=scope.cancel)

    token = current.set(scope)
    try:
        with pytest.raises(Cancelled):
            get(tmp_path, f"https://files.test:{port}/a")
    finally:
        current.reset(token)


def test_fetch_timeout_includes_tls_handshake(server, tmp_path):
    """The kernel accepts the connection, but no server ever answers."""
    why = "not fetched in the time that a build may take"
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(FetchFailed, match=why):
        get(tmp_path, f"https://files.test:{silent.getsockname()[1]}/a", timeout=0.1)


def test_fetches_of_one_build_share_an_allowance(server, tmp_path):
    """Each of the files alone would be small enough."""
    port, answers, _ = server
    answers["/a"] = (200, {}, CONTENT)
    allowance = DownloadAllowance(2 * len(CONTENT))

    for name in ("one", "two"):
        assert get(tmp_path, f"https://files.test:{port}/a", allowance=allowance, name=name) == CONTENT
    with pytest.raises(FetchFailed, match=r"(?s)0 MiB together.*Fetch fewer or smaller files"):
        get(tmp_path, f"https://files.test:{port}/a", allowance=allowance, name="three")
    assert (tmp_path / "three").read_bytes() == b""


def test_fetch_keeps_disk_reserve_free(server, tmp_path):
    """The reserve applies to the file system of the target."""
    port, answers, _ = server
    answers["/a"] = (200, {}, CONTENT)

    assert get(tmp_path, f"https://files.test:{port}/a", reserve=1) == CONTENT
    with pytest.raises(DiskFull, match="have to stay"):
        get(tmp_path, f"https://files.test:{port}/a", name="more", reserve=2 * free_bytes(tmp_path))
    assert (tmp_path / "more").read_bytes() == b""


def test_fetch_fails_if_connection_is_refused(server, tmp_path):
    """The message names the URL."""
    with pytest.raises(FetchFailed, match="cannot be fetched"):
        get(tmp_path, "https://files.test:1/a")


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700::1111", "64:ff9b::101:101", "::ffff:1.1.1.1"])
def test_is_public_accepts_public_addresses(address):
    """This includes IPv6 addresses that embed a public IPv4 address."""
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "127.9.9.9", "0.0.0.0", "10.1.1.1", "172.16.0.1", "192.168.0.1", "169.254.169.254", "100.64.0.1",
     "224.0.0.1", "255.255.255.255", "192.0.2.1", "::1", "::", "fe80::1", "fe80::1%eth0", "fd00:ec2::254", "ff02::1",
     "192.0.0.9", "192.0.0.33", "192.88.99.1", "198.18.0.1", "240.0.0.1", "100.127.255.255", "fec0::1",
     "64:ff9b:1::1.1.1.1", "::ffff:0:1.1.1.1", "::1.1.1.1", "5f00::1", "3fff::1", "3fff:fff::1", "100:0:0:1::1",
     "2001:db8::1", "2001::1", "4000::1", "64:ff9b::10.0.0.1", "64:ff9b::192.0.0.9", "::ffff:192.88.99.1",
     "2002:c000:9::",
     "::ffff:127.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "", "x"],
)  # fmt: skip
def test_is_public_refuses_special_addresses(address):
    """Examples are loopback, link-local, private, shared, multicast and documentation, also embedded in IPv6."""
    assert not is_public(address)


def test_public_addresses_refuses_host_with_any_private_address():
    """A host without an address is an error too."""
    assert resolve_public_addresses("a", 443, lambda host, port: ["1.1.1.1", "1.0.0.1"]) == ("1.1.1.1", "1.0.0.1")
    with pytest.raises(DockerfileRefused, match=r"a, which is 10\.0\.0\.1"):
        resolve_public_addresses("a", 443, lambda host, port: ["1.1.1.1", "10.0.0.1"])
    with pytest.raises(FetchFailed, match="no address"):
        resolve_public_addresses("a", 443, lambda host, port: [])

    def fails(host, port):
        raise OSError("no such host")

    with pytest.raises(FetchFailed, match="no such host"):
        resolve_public_addresses("a", 443, fails)
