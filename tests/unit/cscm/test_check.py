"""`cscm check`: its formats, its exit status, and that nothing is written for a wrong call."""

import contextlib
import json
import os
import shutil
from functools import partial
from unittest.mock import Mock
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from cscm.main import main
from cscm.running import REFUSED
from cscm_laptop import laptop, preflight
from cscm_laptop.preflight import TOOLS
from supply_chain.development.bases import REGISTRIES, ImageNames
from supply_chain.development.dockerfile import Reading
from supply_chain.development.preflight import Preflight, PreflightPorts
from supply_chain.development.test import Planned
from supply_chain.errors import ToolMissing
from supply_chain.evidence.checks import Check, CheckResult
from tests.support.builders import NOON, check, report
from tests.support.command import ROOT
from tests.support.facts import no_minimum
from tests.support.memory_generator import MemoryGenerator
from tests.support.memory_scanner import MemoryScanner
from tests.support.policies import INTAKE


class Reader:
    version = "1.0.0"

    def read(self, content, targets, *_):
        return Reading.model_validate({"targets": {name: {"base": "", "images": []} for name in targets}})


@pytest.fixture
def application(make, tmp_path, monkeypatch):
    """A directory `apps/shop` below the working directory, and the failures of its check `secrets`."""
    failed: list[str] = []
    directory = tmp_path / "apps/shop"
    snapshot = make.snapshot(directory, files={"a.py": ""})
    for name in ("supply-chain.yaml", "Dockerfile"):
        shutil.copyfile(ROOT / "examples/hello" / name, directory / name)

    def plan(_):
        results = [check(Check.SOURCE), check(Check.DOCKERFILE), check(Check.SECRETS, failed=tuple(failed))]
        if not failed:
            results[-1] = check(Check.SECRETS)
        return [Planned(each.check, {}, partial(CheckResult.model_copy, each)) for each in results]

    def take(path):
        assert path == directory
        return contextlib.nullcontext(snapshot)

    ports = PreflightPorts(
        take=take,
        reader=Reader(),
        names=ImageNames("registry.test", {}, REGISTRIES),
        bases=("node", "python"),
        plan=plan,
        generator=MemoryGenerator(),
        scanner=MemoryScanner(report()),
        policy=INTAKE,
        minimum_classification=no_minimum,
        now=lambda: NOON,
    )
    monkeypatch.setattr(preflight, "make_preflight_ports", lambda *_: ports)
    monkeypatch.chdir(tmp_path)
    return failed


def cscm(*arguments):
    return CliRunner().invoke(main, ["check", *map(str, arguments)])


def test_check_of_good_application_ends_with_0(application):
    """It names the rules that a build is needed for."""
    done = cscm("apps/shop")

    assert done.exit_code == 0, done.output
    assert "    image.block: image.blocked" in done.stdout.splitlines()
    assert done.stdout.endswith("hello: nothing to refuse (25 of 43 rules judged)\n")


@pytest.mark.parametrize("form", ["text", "sarif", "junit", "json"])
def test_check_of_refused_application_ends_with_3_in_every_format(application, form):
    """A hook and a pipeline stop there."""
    application.append("a.py:1: AWS Access Key")

    done = cscm("apps/shop", *(["--json"] if form == "json" else ["--format", form]))

    assert done.exit_code == REFUSED, done.output
    match form:
        case "text":
            assert done.stdout.startswith("apps/shop/a.py:1: error: AWS Access Key [secrets.failed]\n    → remove ")
        case "sarif":
            (result,) = json.loads(done.stdout)["runs"][0]["results"]
            (location,) = result["locations"]
            assert location["physicalLocation"]["artifactLocation"]["uri"] == "apps/shop/a.py"
        case "junit":
            root = ElementTree.fromstring(done.stdout)
            assert root.attrib["failures"] == "1" and "apps/shop/a.py:1" in "".join(root.itertext())
        case "json":
            (found,) = Preflight.model_validate_json(done.stdout).diagnostics
            assert (found.code, found.file, found.line) == ("secrets.failed", "a.py", 1)


@pytest.mark.parametrize(("current", "place"), [("apps/shop", "a.py:1"), ("apps", "shop/a.py:1"), ("other", None)])
def test_places_are_relative_to_the_working_directory(application, tmp_path, monkeypatch, current, place):
    """An editor opens them; what lies elsewhere is absolute."""
    application.append("a.py:1: AWS Access Key")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / current)

    done = cscm(os.path.relpath(tmp_path / "apps/shop"))

    assert done.stdout.startswith(f"{place or f'{tmp_path}/apps/shop/a.py:1'}: error: ")


@pytest.mark.parametrize("arguments", [("--format", "sarif"), ("--json",)])
def test_output_file_has_the_report_and_the_terminal_the_text(application, tmp_path, arguments):
    """A log shows what the uploaded file says."""
    application.append("a.py:1: AWS Access Key")

    done = cscm("apps/shop", *arguments, "--output", "report.json")

    assert done.exit_code == REFUSED and done.stdout.startswith("apps/shop/a.py:1: error: ")
    written = json.loads((tmp_path / "report.json").read_text())
    assert ("runs" in written) is (arguments[0] == "--format") and len(written) == (3 if "runs" in written else 8)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("nowhere",), "does not exist"),
        (("apps/shop/supply-chain.yaml",), "is a file"),
        (("apps/shop", "--format", "xml"), "is not one of"),
        (("apps/shop", "--json", "--format", "sarif"), "exclude each other"),
        (("apps/shop", "--output", "nowhere/x"), "cannot be written"),
    ],
)
def test_check_with_wrong_arguments_ends_with_2_and_reason(application, arguments, why):
    """Nothing is checked."""
    done = cscm(*arguments)

    assert done.exit_code == 2 and why in done.stderr and done.stdout == ""


def test_check_without_its_tool_ends_with_1_and_writes_nothing(application, tmp_path, monkeypatch):
    """A missing tool is no pass."""

    def missing(*_):
        raise ToolMissing("syft is not on this machine\nRun `cscm up`.")

    monkeypatch.setattr(preflight, "make_preflight_ports", missing)

    done = cscm("apps/shop", "--output", "report.txt")

    assert done.exit_code == 1 and done.stdout == ""
    assert "syft is not on this machine" in done.stderr and "[tool.missing]" in done.stderr
    assert not (tmp_path / "report.txt").exists()


@pytest.mark.parametrize(
    ("file", "text", "status", "found"),
    [
        ("supply-chain.yaml", None, 1, "supply-chain.yaml does not exist"),
        ("supply-chain.yaml", "", REFUSED, "supply-chain.yaml is empty"),
        ("supply-chain.yaml", "kind: service\nnaem: hello\n", REFUSED, "did you mean name?"),
        ("Dockerfile", None, REFUSED, "Dockerfile does not exist. [declaration.invalid]\n    → Write one, or name"),
    ],
)
def test_mistake_is_found_before_a_tool_is_needed(application, tmp_path, monkeypatch, file, text, status, found):
    """Nobody waits minutes for tools to read that a file is missing; nothing is installed for it."""
    path = tmp_path / "apps/shop" / file
    path.unlink() if text is None else path.write_text(text)
    for module, name in ((preflight, "make_preflight_ports"), (laptop, "install")):
        monkeypatch.setattr(module, name, Mock(side_effect=ToolMissing("syft is not on this machine\nRun `cscm up`.")))

    done = cscm("apps/shop", "--install")

    assert done.exit_code == status and found in done.output, done.output


def test_check_installs_tools_first_and_prints_to_standard_error(application, monkeypatch):
    """Standard output has only the report."""
    asked = []

    def install(profile, home, tools, progress):
        asked.append(tools)
        progress("syft: ready")

    monkeypatch.setattr(laptop, "install", install)

    done = cscm("apps/shop", "--install", "--json")

    assert done.exit_code == 0 and asked == [TOOLS]
    assert "syft: ready" in done.stderr and Preflight.model_validate_json(done.stdout)


def test_check_passes_image_name_unchanged(application, monkeypatch):
    """The engine knows it by a name or an id."""
    asked = []
    monkeypatch.setattr(preflight, "make_preflight_ports", lambda *given: asked.append(given[-1]))

    cscm("apps/shop", "--image", "hello:dev")

    assert asked == ["hello:dev"]
