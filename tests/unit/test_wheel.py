"""The wheels of this project: what each installs, and how a release takes them from the project's image."""

import io
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

from scripts.wheel import DISTRIBUTIONS, purl_of, wheels_in
from supply_chain.errors import EvidenceInvalid
from supply_chain.model.image import ImageRef

ROOT = Path(__file__).parents[2]
REF = ImageRef(repository="curated/cscm", digest="sha256:" + "a" * 64)
WHEEL, LAPTOP = (f"{name}-0.2.0-py3-none-any.whl" for name in DISTRIBUTIONS)
LEAVE_OUT = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")


@pytest.fixture
def exported(tmp_path):
    """Return a function that writes a root filesystem whose files contain their own names."""

    def make(*names):
        with tarfile.open(tmp_path / "image.tar", mode="w") as tar:
            for name in names:
                entry = tarfile.TarInfo(name)
                entry.size = len(name)
                tar.addfile(entry, io.BytesIO(name.encode()))
        return tmp_path / "image.tar"

    return make


def test_wheel_has_package_url():
    """It has the normalized name that pip uses."""
    assert purl_of(WHEEL) == "pkg:pypi/container-supply-chain@0.2.0"


def test_wheels_are_taken_from_release_directory(exported):
    """Other wheels in the image are ignored, such as that of pip; the project's own comes first."""
    tar = exported("usr/share/python-wheels/pip-23.whl", *(f"opt/release/{name}" for name in (LAPTOP, WHEEL, "a.txt")))

    assert list(wheels_in(tar, REF).items()) == [(name, f"opt/release/{name}".encode()) for name in (WHEEL, LAPTOP)]


@pytest.mark.parametrize(
    "names", [(), (WHEEL,), (WHEEL, LAPTOP, "b-1.whl"), (WHEEL, f"{LAPTOP}.asc"), (LAPTOP, LAPTOP)]
)
def test_image_must_have_exactly_the_wheels_of_the_project(exported, names):
    """With another wheel, the release would be ambiguous."""
    with pytest.raises(EvidenceInvalid, match="in /opt/release"):
        wheels_in(exported(*(f"opt/release/{name}" for name in names)), REF)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    """Build both wheels from a copy of the sources, as `pip wheel` does, without the network."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheels")
    for name in ("src", "flows", "tasks", "blocks"):
        shutil.copytree(ROOT / name, source / name, ignore=LEAVE_OUT)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = f"from setuptools import build_meta; build_meta.build_wheel({str(out)!r})"
    for directory in (source, source / "src/cscm_laptop"):
        subprocess.run([sys.executable, "-c", command], cwd=directory, check=True, capture_output=True, timeout=120)
    return {each.name: each for each in out.iterdir()}


def content_of(wheel):
    with zipfile.ZipFile(wheel) as files:
        return {name for name in files.namelist() if ".dist-info/" not in name}


def sources_of(*directories):
    """Return the files of the project that belong into a wheel, by their path there."""
    return {
        path
        for place in map(ROOT.joinpath, directories)
        for file in place.rglob("*")
        if file.is_file()
        and not re.search(r"__pycache__|/build/|\.egg-info/", path := str(file.relative_to(place.parent)))
    }


def test_each_wheel_has_exactly_its_own_files(wheels):
    """The project's wheel has nothing of the laptop: no emulator, starter database, engine set-up or tool builder."""
    laptop = sources_of("src/cscm_laptop") - {"cscm_laptop/pyproject.toml"}
    project = sources_of("src/supply_chain", "src/orchestration", "src/cscm", "flows", "tasks", "blocks")

    assert {"cscm_laptop/emulator/__main__.py", "cscm_laptop/engine_setup.py"} <= laptop
    assert {"cscm_laptop/vulndb/feed/facts.json.xz", "cscm_laptop/tools/installer.py"} <= laptop
    assert (content_of(wheels[WHEEL]), content_of(wheels[LAPTOP])) == (project, laptop)


def test_extra_laptop_installs_the_laptop_of_the_same_version(wheels):
    """Neither works with another version of the other."""
    with zipfile.ZipFile(wheels[WHEEL]) as one, zipfile.ZipFile(wheels[LAPTOP]) as two:
        project, laptop = (
            files.read(next(name for name in files.namelist() if name.endswith("/METADATA"))).decode()
            for files in (one, two)
        )

    assert 'Requires-Dist: container-supply-chain-laptop==0.2.0; extra == "laptop"' in project
    assert "Requires-Dist: container-supply-chain==0.2.0\n" in laptop
    assert version("container-supply-chain") == "0.2.0"


WITHOUT_LAPTOP = """
import importlib, importlib.util, pkgutil
from click.testing import CliRunner
import blocks, cscm, flows, orchestration, tasks

assert importlib.util.find_spec("cscm_laptop") is None
for package in (flows, tasks, blocks, orchestration, cscm):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
from cscm.main import main
for words in ([each] for each in ("--help", "schema", "up", "down", "status", "doctor", "reset", "monitor")):
    done = CliRunner().invoke(main, words, catch_exceptions=False)
    print(words[0], done.exit_code, "[laptop.missing]" in done.output, "container-supply-chain[laptop]" in done.output)
"""


def test_project_without_laptop_extra_names_extra_if_needed(wheels, tmp_path):
    """Every module of flows and commands can be imported; only what needs the laptop fails, with its remedy."""
    target, work = tmp_path / "installed", tmp_path / "work"
    (work / "deployments/profiles").mkdir(parents=True)
    (work / "deployments/profiles/laptop.yaml").touch()
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--no-compile",
        "--target",
        target,
    ]
    subprocess.run([*pip, wheels[WHEEL]], check=True, timeout=120)
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    # -S: without the environment's own installation of the project
    done = subprocess.run(
        [sys.executable, "-S", "-c", WITHOUT_LAPTOP], cwd=work,
        capture_output=True, text=True, timeout=120, check=False,
        env={**environment, "PREFECT_HOME": str(tmp_path),
             "PYTHONPATH": os.pathsep.join([str(target), sysconfig.get_path("purelib")])},
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "--help 0 False False",
        "schema 0 False False",
        *(f"{name} 1 True True" for name in ("up", "down", "status", "doctor", "reset", "monitor")),
    ]
