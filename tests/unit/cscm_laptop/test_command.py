"""The commands of the laptop, called as a person does."""

import http.server
import json
import os
import socket
import threading

import pytest
from click.testing import CliRunner

from cscm.main import main
from cscm_laptop import doctor, firewall
from cscm_laptop.home import Home
from orchestration.project import MARKER
from supply_chain.errors import EngineUnavailable


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return a function that calls a command in its own project with unused ports."""
    with socket.socket() as one, socket.socket() as two:
        for probe in (one, two):
            probe.bind(("127.0.0.1", 0))
        ports = [probe.getsockname()[1] for probe in (one, two)]
    project = tmp_path / "project"
    (project / MARKER).parent.mkdir(parents=True)
    (project / MARKER).write_text(f"ports: {{emulator: {ports[0]}, prefect: {ports[1]}}}\n")
    (project / "deployments" / "tools.yaml").write_text(
        "releases: https://example.org\n"
        "tools:\n"
        "  nosuchtool:\n"
        "    kind: distribution\n"
        "    package: nosuchtool\n"
        "    minimum: 1.2.0\n"
        "    version_args: [--version]\n"
        "    version_pattern: '(\\d+(?:\\.\\d+)+)'\n"
    )
    monkeypatch.setenv("CSCM_PROJECT", str(project))
    monkeypatch.setenv("CSCM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nothing.sock")
    return lambda *args: CliRunner().invoke(main, args)


def test_status_lists_every_part_as_stopped_if_nothing_runs(run):
    """Each part is listed with the address that it would have."""
    parts = json.loads(run("status", "--json").stdout)

    assert {part["name"]: part["running"] for part in parts} == {
        "engine": False,
        "emulator": False,
        "prefect": False,
        "prefork": False,
        "worker": False,
        "bridge": False,
    }


def test_doctor_lists_each_failed_part_with_remedy(run):
    """Exit status 1 means that something is not ok."""
    done = run("doctor", "--json")

    lines = {line["name"]: line for line in json.loads(done.stdout)}
    assert done.exit_code == 1
    assert lines["python"]["ok"]
    for name in (
        "docker engine",
        "nosuchtool",
        "emulator",
        "prefect server",
        "worker",
        "bridge",
        "vulnerability database",
    ):
        assert not lines[name]["ok"]
        assert lines[name]["remedy"]


@pytest.mark.parametrize(("user", "engine"), [(1000, "unix:///nothing.sock"), (0, "tcp://192.0.2.1:1")])
def test_doctor_notes_settings_that_only_root_on_engine_host_can_make(run, tmp_path, monkeypatch, user, engine):
    """Their absence is no failure, and the note has the commands."""
    Home(tmp_path / "project", tmp_path / "home").create()
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setenv("DOCKER_HOST", engine)
    monkeypatch.setattr(doctor, "ask", unavailable)

    lines = {line["name"]: line for line in json.loads(run("doctor", "--json").stdout)}

    assert lines["build network"]["ok"] and lines["build limits"]["ok"]
    commands = lines["build network"]["remedy"].partition(": ")[2].split(" && ")
    owner = (tmp_path / "home/state/owner").read_text().strip()
    assert len(commands) == len(firewall.RULES)
    assert commands[0] == (
        "sudo iptables --wait 10 --table raw -I PREROUTING -i docker0 -d 169.254.0.0/16 "
        f"-m comment --comment cscm-{owner} --jump DROP"
    )
    assert "note build limits" in run("doctor").stdout


def unavailable(url):
    raise EngineUnavailable(f"{url} does not answer.\nStart it.")


def test_doctor_fails_for_root_if_build_network_rules_are_missing(run, monkeypatch):
    """Root on the engine's machine can fix it."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(firewall, "find_iptables", lambda: None)

    lines = {line["name"]: line for line in json.loads(run("doctor", "--json").stdout)}

    assert not lines["build network"]["ok"] and "cscm up" in lines["build network"]["remedy"]


def test_doctor_fails_if_bridge_has_ipv6_addresses(run, monkeypatch):
    """There are no rules for IPv6, so build steps could reach any such address."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(firewall, "has_ipv6", lambda: True)

    lines = {line["name"]: line for line in json.loads(run("doctor", "--json").stdout)}

    assert not lines["build network"]["ok"] and "IPv6" in lines["build network"]["actual"]
    assert "daemon.json" in lines["build network"]["remedy"]


def test_doctor_names_process_on_busy_port(run, tmp_path):
    """The remedy names the setting to change."""
    profile = tmp_path / "project" / MARKER
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as other:
        threading.Thread(target=other.serve_forever, args=(0.01,), daemon=True).start()
        port = other.server_port
        profile.write_text(f"ports: {{emulator: {port}, prefect: {port - 1 if port > 2000 else port + 1}}}\n")
        lines = {line["name"]: line for line in json.loads(run("doctor", "--json").stdout)}
        other.shutdown()

    assert "taken by" in lines[f"port {port}"]["actual"]
    assert "ports.emulator" in lines[f"port {port}"]["remedy"]
    assert not lines["emulator"]["ok"]  # another process answers there
    assert "taken" in lines["emulator"]["actual"]


def test_up_reports_all_busy_ports_before_creating_anything(run, tmp_path):
    """Otherwise a user would see the second conflict only minutes after the first is fixed."""
    with socket.socket() as one, socket.socket() as two:
        for other in (one, two):
            other.bind(("127.0.0.1", 0))
            other.listen()
        ports = [other.getsockname()[1] for other in (one, two)]
        profile = tmp_path / "project" / MARKER
        profile.write_text(f"ports: {{emulator: {ports[0]}, prefect: {ports[1]}}}\n")
        done = run("up")

    assert done.exit_code == 1
    assert all(f"127.0.0.1:{port}" in done.stderr for port in ports)
    assert "[port.busy]" in done.stderr
    assert not (tmp_path / "home" / "emulator" / "bin").exists()


@pytest.mark.parametrize("command", ["up", "status", "doctor"])
def test_mistake_in_profile_is_reported_without_stack_trace(run, tmp_path, command):
    """The message has file, line and column; the exit status is 1."""
    (tmp_path / "project" / MARKER).write_text("prots: {emulator: 1}\n")

    done = run(command)

    assert done.exit_code == 1
    assert "laptop.yaml:1:1: prots" in done.stderr
    assert "Traceback" not in done.output


def test_error_message_has_no_control_characters(run, tmp_path):
    """Text of a file must not ring, move the cursor or change colors."""
    (tmp_path / "project" / MARKER).write_text('"prots\\a": 1\n')

    done = run("up")

    assert "prots" in done.stderr
    assert "\a" not in done.output


def test_reset_asks_for_confirmation(run, tmp_path):
    """A reset removes every image, key and record."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "this-is-a-cscm-home").touch()

    assert run("reset").exit_code == 1
    assert (tmp_path / "home").exists()
    assert run("reset", "--yes").exit_code == 0
    assert not (tmp_path / "home").exists()
