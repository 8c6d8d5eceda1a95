"""The front's configuration."""

from supply_chain.execution.environment import Environment, Placement
from supply_chain.execution.reverse_proxy import ReverseProxy, render, target_of

PROXY, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64


def front(image=PROXY, application="hello", **place) -> ReverseProxy:
    environment = Environment(name="staging", applications={application: Placement(**{"port": 18080, **place})})
    return ReverseProxy(engine=None, environment=environment, application=application, image=image, run_id="run")


def test_serves_one_container_and_says_which():
    """Requests go to the named container and port, and the front tells its name when asked."""
    text = render("0123456789ab", 9000, "r1")

    assert "server application 0123456789ab:9000 resolvers engine" in text
    assert 'text/plain string "0123456789ab r1"' in text
    assert target_of(text) == ("0123456789ab", 9000)


def test_what_a_front_knew_last_holds_while_nobody_answers_it():
    """The engine is the name server, and containers outlive it; what it says does not exist is gone at once."""
    resolvers = render("0123456789ab", 9000, "r1").partition("resolvers engine")[2].partition("frontend")[0]

    assert [line.split()[1:] for line in resolvers.splitlines() if "hold" in line] == [
        ["valid", "1s"],
        ["timeout", "20d"],
    ]


def test_another_address_or_proxy_is_another_front():
    """Each makes the front one that has to be replaced."""
    fronts = (front(), front(port=18081), front(address="127.0.0.2"), front(image=OTHER))

    assert len({each.configuration for each in fronts}) == 4


def test_what_an_application_is_told_does_not_replace_its_front():
    """Configuration is the application's."""
    assert front(environment={"A": "1"}).configuration == front().configuration
