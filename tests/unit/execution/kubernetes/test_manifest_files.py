"""The files of kustomizations and charts: what is read, and what may not be declared."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from supply_chain.errors import DeclarationInvalid, ToolMissing
from supply_chain.execution.kubernetes import manifest_files
from supply_chain.execution.kubernetes.manifest_files import PlainOnly, Release, read_chart, read_kustomization
from supply_chain.model.documents import LIMIT


def write(root: Path, **files: str) -> None:
    """Write files; `__` in a name stands for `/`."""
    for name, content in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(path.name.replace("_yaml", ".yaml")).write_text(content)


def test_kustomization_is_read_with_its_bases(tmp_path):
    """Each directory is read as a whole, each once, and nothing besides."""
    write(
        tmp_path,
        shop__overlays__test__kustomization_yaml=(
            "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [../../base, own.yaml]\n"
            "components: [../../parts]\npatches:\n- {path: files/patch.yaml, target: {kind: Deployment}}\n"
            "configMapGenerator:\n- {name: pages, files: [files/index, b=files/b], literals: ['URL=https://example/']}\n"
        ),
        shop__overlays__test__own_yaml="own",
        shop__overlays__test__files__patch_yaml="patch",
        shop__base__kustomization_yaml="resources: [all.yaml]\n",
        shop__base__all_yaml="all",
        shop__parts__kustomization_yaml="kind: Component\nresources: [../base]\n",
        shop__other__all_yaml="other",
    )

    assert read_kustomization(tmp_path, "shop/overlays/test").keys() == {
        "shop/overlays/test/kustomization.yaml", "shop/overlays/test/own.yaml",
        "shop/overlays/test/files/patch.yaml", "shop/base/kustomization.yaml", "shop/base/all.yaml",
        "shop/parts/kustomization.yaml",
    }  # fmt: skip
    assert read_kustomization(tmp_path, "shop/base")["shop/base/all.yaml"] == b"all"


def test_kustomizations_that_name_each_other_are_read_once(tmp_path):
    """That it is a cycle, kustomize says."""
    write(tmp_path, a__kustomization_yaml="resources: [../b]", b__kustomization_yaml="resources: [../a]")

    assert set(read_kustomization(tmp_path, "a")) == {"a/kustomization.yaml", "b/kustomization.yaml"}


REMOTE = "has to be a relative path"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("resources: ['https://example.com/all.yaml']", REMOTE),
        ("resources: ['git@example.com/shop']", REMOTE),
        ("resources: ['example.com/shop?ref=main']", REMOTE),
        ("resources: ['\\\\host']", REMOTE),
        ("resources: ['/etc/passwd']", REMOTE),
        ("resources: ['']", REMOTE),
        ("resources: ['a\tb']", REMOTE),
        ("resources: [github.com/shop/base]", "neither a file"),
        ("resources: [absent.yaml]", "neither a file"),
        ("resources: ['..']", "neither a file"),
        ("resources: [../..]", "neither a file"),
        ("resources: [../../etc]", "neither a file"),
        ("components: ['https://example.com/part']", REMOTE),
        ("components: [absent]", "neither a file"),
        ("patches: [{path: 'https://example.com/patch'}]", REMOTE),
        ("patches: [{Path: 'https://example.com/patch'}]", "Path: unknown key"),
        ("replacements: [{path: 'https://example.com/replacement'}]", REMOTE),
        ("configMapGenerator: [{name: a, files: ['https://example.com/a']}]", REMOTE),
        ("configMapGenerator: [{name: a, files: ['a=https://example.com/a']}]", REMOTE),
        ("configMapGenerator: [{name: a, envs: ['https://example.com/a']}]", REMOTE),
        ("generators: [exec.yaml]", "generators: unknown key"),
        ("transformers: [exec.yaml]", "transformers: unknown key"),
        ("validators: [exec.yaml]", "validators: unknown key"),
        ("Generators: [exec.yaml]", "Generators: unknown key"),
        ("helmCharts: [{name: a, repo: 'https://example.com'}]", "helmCharts: unknown key"),
        ("bases: ['https://example.com']", "bases: unknown key"),
        ("crds: ['https://example.com']", "crds: unknown key"),
        ("openapi: {path: 'https://example.com'}", "openapi: unknown key"),
        ("config_map_generator: []", "config_map_generator: unknown key"),
        ("kind: Other", "kind: "),
        ("kind: Kustomization\n---\nkind: Kustomization", "another document"),
    ],
)
def test_kustomization_that_needs_more_than_its_files_is_refused(tmp_path, text, message):
    """Nothing is fetched, no program of it runs, and no file of elsewhere is read."""
    write(tmp_path / "deployments", hello__kustomization_yaml=text)

    with pytest.raises(DeclarationInvalid, match=message):
        read_kustomization(tmp_path / "deployments", "hello")


def test_base_without_kustomization_is_refused(tmp_path):
    """The other names that kustomize reads too are not looked at here."""
    write(tmp_path, hello__kustomization_yaml="resources: [../base]", base__Kustomization="resources: []")

    with pytest.raises(DeclarationInvalid, match=r"base has no kustomization\.yaml"):
        read_kustomization(tmp_path, "hello")


def test_chart_is_read_with_its_values(tmp_path):
    """The values of an environment are beside the chart."""
    write(tmp_path, charts__hello__Chart_yaml="c", charts__hello__templates__a_yaml="a", values__test_yaml="v")

    chart = {"charts/hello/Chart.yaml": b"c", "charts/hello/templates/a.yaml": b"a"}
    assert read_chart(tmp_path, "charts/hello", None) == chart
    assert read_chart(tmp_path, "charts/hello", "values/test.yaml") == {**chart, "values/test.yaml": b"v"}


@pytest.mark.parametrize("link", ["charts", "charts/hello", "charts/hello/templates", "charts/hello/a", "values.yaml"])
def test_links_are_refused(tmp_path, link):
    """They may lead to files of the host."""
    write(tmp_path / "real", charts__hello__Chart_yaml="c", charts__hello__templates__a_yaml="a",
          charts__hello__a="a", values_yaml="v")  # fmt: skip
    real, moved = tmp_path / "real" / link, tmp_path / "moved"
    real.rename(moved)
    real.symlink_to(moved)

    with pytest.raises(DeclarationInvalid, match=f"{link} is a link"):
        read_chart(tmp_path / "real", "charts/hello", "values.yaml")


def test_project_may_be_behind_a_link(tmp_path):
    """Where the project is, whoever runs it decides."""
    write(tmp_path / "real", hello__Chart_yaml="c")
    (tmp_path / "deployments").symlink_to(tmp_path / "real")

    assert read_chart(tmp_path / "deployments", "hello", None) == {"hello/Chart.yaml": b"c"}


def test_special_file_is_refused(tmp_path):
    """To read a pipe would never end."""
    write(tmp_path, hello__Chart_yaml="c")
    os.mkfifo(tmp_path / "hello/pipe")

    with pytest.raises(DeclarationInvalid, match="is not a file"):
        read_chart(tmp_path, "hello", None)


def test_files_are_limited(tmp_path, monkeypatch):
    """Exactly the limits are allowed, in the number of files, the size of each and of all together."""
    monkeypatch.setattr(manifest_files, "MOST_FILES", 2)
    monkeypatch.setattr(manifest_files, "MOST_BYTES", LIMIT + 2)
    write(tmp_path, hello__Chart_yaml="c" * LIMIT, hello__a="aa")
    assert len(read_chart(tmp_path, "hello", None)) == 2

    for change in ({"hello__a": "aaa"}, {"hello__b": ""}, {"hello__Chart_yaml": "c" * (LIMIT + 1), "hello__a": ""}):
        directory = tmp_path / str(len(str(change)))
        write(directory, hello__Chart_yaml="c" * LIMIT, hello__a="aa")
        write(directory, **change)
        with pytest.raises(
            DeclarationInvalid, match=r"too large, or one file too many: at most 2 of 256 KiB, and 0 MiB"
        ):
            read_chart(directory, "hello", None)


def test_plain_target_renders_nothing():
    """A target that was given no renderer says so."""
    with pytest.raises(ToolMissing, match="Nothing here renders hello"):
        PlainOnly().build_kustomization({}, "hello")
    with pytest.raises(ToolMissing, match="Nothing here renders hello"):
        PlainOnly().template_chart({}, "hello", Release("hello", "shop", ""))


def test_chart_with_external_schema_reference_is_refused(tmp_path):
    """helm would read it."""
    (tmp_path / "hello").mkdir()
    (tmp_path / "hello/values.schema.json").write_text('{"$ref": "https://example.com/schema"}')

    with pytest.raises(DeclarationInvalid, match="which is elsewhere"):
        read_chart(tmp_path, "hello", None)
