"""What people may rely on."""

from hello.service import make_service
from starlette.testclient import TestClient


def test_greeting_comes_from_environment():
    """The same image greets differently where it is configured differently."""
    client = TestClient(make_service("Grüezi"))

    assert client.get("/").text == "Grüezi, world!\n"
    assert client.get("/", params={"name": "Ada"}).text == "Grüezi, Ada!\n"


def test_readiness_path_returns_ok():
    """The probe and the proxy ask this path."""
    answer = TestClient(make_service("Hello")).get("/healthz")

    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_unknown_path_returns_404():
    """An unknown path is an error, not a greeting."""
    assert TestClient(make_service("Hello")).get("/admin").status_code == 404
