"""How kustomize and helm are called, and what is made of how they end; their stand-ins are shell scripts."""

from __future__ import annotations

from pathlib import Path

import pytest

from supply_chain.adapters.process.command import Tool
from supply_chain.adapters.tools import manifest_renderer
from supply_chain.adapters.tools.manifest_renderer import ManifestRenderer, find_needed
from supply_chain.errors import ManifestsRefused
from supply_chain.execution.kubernetes.manifest_files import Release
from supply_chain.model.documents import LIMIT

FILES = {"shop/base/all.yaml": b"kind: Service\n", "shop/values.yaml": b"a: 1\n"}


@pytest.fixture
def renderer(tmp_path: Path) -> ManifestRenderer:
    """A renderer whose tools are scripts; `script` writes them."""

    def find(name: str) -> Tool:
        return Tool(name, tmp_path / name, "1")

    return ManifestRenderer(find)


def script(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_kustomization_is_built_of_given_files_alone(renderer, tmp_path, monkeypatch):
    """In a directory of their own, with an empty home and no environment; no plugin is enabled."""
    monkeypatch.setenv("KUBECONFIG", "/config")
    script(tmp_path, "kustomize", 'echo "$@"; echo "k=$KUBECONFIG"; echo "$HOME" "$TMPDIR"; /usr/bin/find . "$HOME"; '
           "/bin/cat shop/base/all.yaml")  # fmt: skip

    lines = renderer.build_kustomization(FILES, "shop/base").decode().splitlines()

    assert lines[:2] == ["build --load-restrictor=LoadRestrictionsRootOnly shop/base", "k="]
    home, same = lines[2].split()
    assert home == same and home.endswith("/home") and "cscm-scratch-manifests-" in home
    found = {".", "./shop", "./shop/base", "./shop/base/all.yaml", "./shop/values.yaml", home}
    assert set(lines[3:-1]) == found and len(lines) == 10 and lines[-1] == "kind: Service"
    assert not Path(home).exists()


@pytest.mark.parametrize(("values", "words"), [("", ""), ("shop/values.yaml", " --values=shop/values.yaml")])
def test_chart_is_rendered_without_tests(renderer, tmp_path, values, words):
    """Everything else that it has is in the stream, to be refused there."""
    script(tmp_path, "helm", 'echo "$@"')

    content = renderer.template_chart(FILES, "shop", Release("hello", "staging", values))

    assert content.decode() == (f"template hello ./shop --namespace=staging{words} --include-crds --skip-tests\n")


def test_failed_rendering_is_refused_with_output_of_tool(renderer, tmp_path):
    """Without the temporary directory, and not with thousands of lines."""
    script(tmp_path, "helm", 'echo "$PWD/shop/a.yaml: wrong" >&2; /usr/bin/yes | /usr/bin/head -c 5000 >&2; exit 1')

    with pytest.raises(ManifestsRefused) as raised:
        renderer.template_chart(FILES, "shop", Release("hello", "staging", ""))

    first, *others = str(raised.value).splitlines()
    assert first == "helm template does not render the manifests: shop/a.yaml: wrong"
    assert 470 < len(others) < 510 and others[-1].startswith("Nothing was changed. Correct the files")


def test_rendering_beyond_time_limit_is_refused(renderer, tmp_path, monkeypatch):
    """A template may loop forever."""
    monkeypatch.setattr(manifest_renderer, "TIMEOUT", 0.3)
    script(tmp_path, "kustomize", "while :; do :; done")

    with pytest.raises(ManifestsRefused, match="kustomize build does not render the manifests: it takes more than 0 s"):
        renderer.build_kustomization(FILES, "shop/base")


def test_memory_is_limited(renderer, tmp_path):
    """The limit is that of the process and of what it starts (getrlimit(2), in KiB)."""
    script(tmp_path, "kustomize", 'while [ "$(ulimit -d)" = unlimited ]; do /bin/sleep 0.1; done; ulimit -d')

    assert renderer.build_kustomization(FILES, "shop/base") == b"1048576\n"


def test_long_rendered_output_is_cut_above_limit_of_reader(renderer, tmp_path):
    """Who reads it refuses what is longer than `LIMIT`; up to that, nothing is left out."""
    script(tmp_path, "kustomize", f"/usr/bin/head -c {LIMIT} /dev/zero")
    assert renderer.build_kustomization(FILES, "shop/base") == bytes(LIMIT)

    script(tmp_path, "kustomize", f"/usr/bin/head -c {10 * LIMIT} /dev/zero")
    assert 2 * LIMIT < len(renderer.build_kustomization(FILES, "shop/base")) < 2 * LIMIT + 100


def test_renderers_are_needed_only_for_charts_and_kustomizations(tmp_path):
    """Most projects have none, and build none of them."""
    assert find_needed(tmp_path) == () == find_needed(tmp_path / "absent")
    (tmp_path / "shop/base").mkdir(parents=True)
    (tmp_path / "shop/base/kustomization.yaml").touch()
    assert find_needed(tmp_path) == ("kustomize",)
    (tmp_path / "shop/Chart.yaml").touch()
    assert find_needed(tmp_path) == ("kustomize", "helm")
