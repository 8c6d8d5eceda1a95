"""The configuration of the reverse proxy."""

from supply_chain.execution.environment import DockerEnvironment, DockerPlacement
from supply_chain.execution.reverse_proxy import ReverseProxy, parse_target, render
from tests.support.memory_engine import MemoryEngine

PROXY, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64


def reverse_proxy(image=PROXY, application="hello", **place) -> ReverseProxy:
    environment = DockerEnvironment(
        name="staging", applications={application: DockerPlacement(**{"port": 18080, **place})}
    )
    return ReverseProxy(
        engine=MemoryEngine(), environment=environment, application=application, image=image, run_id="run"
    )


def test_configuration_routes_to_container_and_reports_its_name():
    """The reverse proxy reports the name of the container on request."""
    text = render("0123456789ab", 9000, "r1")

    assert "server application 0123456789ab:9000 resolvers engine" in text
    assert 'text/plain string "0123456789ab r1"' in text
    assert parse_target(text) == ("0123456789ab", 9000)


def test_resolver_keeps_last_address_if_engine_does_not_answer():
    """Containers outlive the engine's name server; a name that does not exist is dropped at once."""
    resolvers = render("0123456789ab", 9000, "r1").partition("resolvers engine")[2].partition("frontend")[0]

    assert [line.split()[1:] for line in resolvers.splitlines() if "hold" in line] == [
        ["valid", "1s"],
        ["timeout", "20d"],
    ]


def test_address_port_or_image_changes_configuration():
    """Each change makes it necessary to replace the reverse proxy."""
    reverse_proxies = (
        reverse_proxy(),
        reverse_proxy(port=18081),
        reverse_proxy(address="127.0.0.2"),
        reverse_proxy(image=OTHER),
    )

    assert len({each.configuration for each in reverse_proxies}) == 4


def test_application_environment_does_not_change_configuration():
    """Environment variables belong to the application."""
    assert reverse_proxy(environment={"A": "1"}).configuration == reverse_proxy().configuration
