"""Files by URL: from public hosts alone, also after a redirect, and with the checksum that is declared."""

import contextlib
import datetime
import hashlib
import ipaddress
import socket
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from supply_chain.adapters.docker import url_fetch as fetch
from supply_chain.adapters.docker.free_space import free_bytes
from supply_chain.adapters.docker.public_hosts import is_public, public_addresses
from supply_chain.adapters.docker.url_fetch import Fetcher
from supply_chain.adapters.process.command import Cancellation, current
from supply_chain.development.build import BuildRules
from supply_chain.errors import Cancelled, DiskFull, DockerfileRefused, FetchFailed

CONTENT = b"what was declared"
SUM = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


def certificate(directory):
    """A key and a certificate for files.test, other.test and 127.0.0.1."""
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
    """Serves `answers` (path → status, headers, body) by https; files.test is taken for a public host there.

    An answer may also be a function that writes to the connection.
    """
    certificate(tmp_path)
    answers, asked = {}, []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.headers["Host"], self.path))
            answer = answers.get(self.path, (404, {}, b""))
            if callable(answer):
                with contextlib.suppress(OSError):  # the client has gone
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
    threading.Thread(target=served.serve_forever, daemon=True).start()

    def addresses(host, port, resolve):
        return ("127.0.0.1",) if host == "files.test" else public_addresses(host, port, resolve)

    monkeypatch.setattr(fetch, "public_addresses", addresses)
    yield served.server_port, answers, asked
    served.shutdown()
    served.server_close()


def get(tmp_path, url, checksum=SUM, timeout=30, allowance=None, name="fetched", **settings):
    target, allowance = tmp_path / name, allowance or BuildRules(1024)
    Fetcher(tmp_path / "ca.pem", **settings).fetch(url, checksum, target, timeout, allowance)
    return target.read_bytes()


def test_fetch_writes_what_has_the_declared_checksum(server, tmp_path):
    """Readable by its owner alone, as BuildKit gives it."""
    port, answers, asked = server
    answers["/a"] = (200, {}, CONTENT)

    assert get(tmp_path, f"https://files.test:{port}/a") == CONTENT
    assert asked == [(f"files.test:{port}", "/a")]
    assert (tmp_path / "fetched").stat().st_mode & 0o777 == 0o600


def test_fetch_follows_redirects_among_public_hosts(server, tmp_path):
    """By https, also to a path."""
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
def test_fetch_follows_no_redirect_away_from_public_https(server, tmp_path, location, error):
    """The content would have had the checksum."""
    port, answers, asked = server
    answers["/a"] = (302, {"Location": location.replace("PORT", str(port))}, b"")
    answers["/c"] = (200, {}, CONTENT)

    with pytest.raises(error):
        get(tmp_path, f"https://files.test:{port}/a")
    assert {path for _, path in asked} == {"/a"}


def test_fetch_connects_to_the_address_that_was_checked(server, tmp_path):
    """A name that resolves to the loopback the second time is not asked a second time."""
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
def test_fetch_fails_on_anything_else(server, tmp_path, answer, settings, why):
    """Another content, none, or too much of it."""
    port, answers, _ = server
    answers["/a"] = answer

    with pytest.raises(FetchFailed, match=why):
        get(tmp_path, f"https://files.test:{port}/a", **settings)


def test_another_checksum_is_not_named(server, tmp_path):
    """A declaration would learn from it what a host answers this machine, and nobody else."""
    port, answers, _ = server
    answers["/a"] = (200, {}, b"other")

    with pytest.raises(FetchFailed) as error:
        get(tmp_path, f"https://files.test:{port}/a")
    assert SUM in str(error.value)
    assert hashlib.sha256(b"other").hexdigest() not in str(error.value)


def in_pieces(start, piece, end, then=lambda: None):
    """An answer that is never silent for long, and complete after three seconds."""

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
def test_fetch_ends_with_its_time(server, tmp_path, pieces):
    """However often the server sends something, also before its answer begins."""
    port, answers, _ = server
    answers["/a"] = in_pieces(*pieces)

    with pytest.raises(FetchFailed, match="not fetched in the time that a build may take"):
        get(tmp_path, f"https://files.test:{port}/a", timeout=0.5)


@pytest.mark.parametrize("pieces", PIECES)
def test_fetch_ends_with_its_run(server, tmp_path, pieces):
    """With the next bytes that come after it was cancelled."""
    port, answers, _ = server
    scope = Cancellation()
    answers["/a"] = in_pieces(*pieces, then=scope.cancel)

    token = current.set(scope)
    try:
        with pytest.raises(Cancelled):
            get(tmp_path, f"https://files.test:{port}/a")
    finally:
        current.reset(token)


def test_fetch_waits_for_no_handshake_longer_than_its_time(server, tmp_path):
    """The kernel accepts the connection, and nobody ever answers on it."""
    why = "not fetched in the time that a build may take"
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(FetchFailed, match=why):
        get(tmp_path, f"https://files.test:{silent.getsockname()[1]}/a", timeout=0.5)


def test_the_files_of_a_build_share_one_allowance(server, tmp_path):
    """Each of them alone would be small enough."""
    port, answers, _ = server
    answers["/a"] = (200, {}, CONTENT)
    allowance = BuildRules(2 * len(CONTENT))

    for name in ("one", "two"):
        assert get(tmp_path, f"https://files.test:{port}/a", allowance=allowance, name=name) == CONTENT
    with pytest.raises(FetchFailed, match=r"(?s)0 MiB together.*Fetch fewer or smaller files"):
        get(tmp_path, f"https://files.test:{port}/a", allowance=allowance, name="three")
    assert (tmp_path / "three").read_bytes() == b""


def test_fetch_keeps_the_reserve_free(server, tmp_path):
    """In the file system that it writes to."""
    port, answers, _ = server
    answers["/a"] = (200, {}, CONTENT)

    assert get(tmp_path, f"https://files.test:{port}/a", reserve=1) == CONTENT
    with pytest.raises(DiskFull, match="have to stay"):
        get(tmp_path, f"https://files.test:{port}/a", name="more", reserve=2 * free_bytes(tmp_path))
    assert (tmp_path / "more").read_bytes() == b""


def test_fetch_fails_where_nobody_answers(server, tmp_path):
    """With the address."""
    with pytest.raises(FetchFailed, match="cannot be fetched"):
        get(tmp_path, "https://files.test:1/a")


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700::1111", "64:ff9b::101:101", "::ffff:1.1.1.1"])
def test_public_addresses_are_public(address):
    """Also those that carry a public IPv4 address."""
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "127.9.9.9", "0.0.0.0", "10.1.1.1", "172.16.0.1", "192.168.0.1", "169.254.169.254", "100.64.0.1",
     "224.0.0.1", "255.255.255.255", "192.0.2.1", "::1", "::", "fe80::1", "fe80::1%eth0", "fd00:ec2::254", "ff02::1",
     "::ffff:127.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "", "x"],
)  # fmt: skip
def test_other_addresses_are_not_public(address):
    """Loopback, link-local, private, shared, multicast, documentation, and IPv6 that carries such an IPv4 address."""
    assert not is_public(address)


def test_a_host_is_public_if_all_of_its_addresses_are():
    """One of two is enough to be refused; none at all is no address."""
    assert public_addresses("a", 443, lambda host, port: ["1.1.1.1", "1.0.0.1"]) == ("1.1.1.1", "1.0.0.1")
    with pytest.raises(DockerfileRefused, match=r"a, which is 10\.0\.0\.1"):
        public_addresses("a", 443, lambda host, port: ["1.1.1.1", "10.0.0.1"])
    with pytest.raises(FetchFailed, match="no address"):
        public_addresses("a", 443, lambda host, port: [])

    def fails(host, port):
        raise OSError("no such host")

    with pytest.raises(FetchFailed, match="no such host"):
        public_addresses("a", 443, fails)
