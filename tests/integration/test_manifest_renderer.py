"""The real kustomize and helm: what they render, and what kustomizations and charts cannot make them do."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
import yaml

from supply_chain.adapters.tools import Toolbox
from supply_chain.adapters.tools.manifest_renderer import ManifestRenderer
from supply_chain.errors import DeclarationInvalid, ManifestsRefused
from supply_chain.execution.environment import KubernetesEnvironment, KubernetesPlacement
from supply_chain.execution.kubernetes.brought import adopt, read_brought
from supply_chain.execution.kubernetes.cluster import Document
from supply_chain.execution.kubernetes.manifest_files import Release, read_chart
from supply_chain.execution.kubernetes.rendering import Workload, render
from supply_chain.model.declaration import ContainerCommand, Probe, Runtime, Service, Test
from supply_chain.model.image import ImageRef

REF = ImageRef(repository="curated/hello", digest="sha256:" + "a" * 64)
DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {name}
spec:
  template:
    spec:
      securityContext:
        runAsNonRoot: true
        runAsUser: 10001
        runAsGroup: 10001
        seccompProfile: {{type: RuntimeDefault}}
      containers:
      - name: application
        image: {image}
        readinessProbe: {{httpGet: {{path: /, port: 8080}}}}
        resources: {{limits: {{cpu: 100m, memory: 32Mi}}}}
        securityContext:
          allowPrivilegeEscalation: false
          readOnlyRootFilesystem: true
          capabilities: {{drop: [ALL]}}
"""
PAGES = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: pages}\ndata: {index: hi}\n"
NAMED = "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: pages}}\ndata: {{index: {} }}\n"
DECLARATION = Service(
    kind="service", name="hello", owner="tests", test=Test(command=("/hello",)), probe=Probe(port=8080),
    runtime=Runtime(commands=(ContainerCommand(args=("--fast",)),)),
)  # fmt: skip
Read = Callable[..., tuple[Document, ...]]


@pytest.fixture
def workload() -> Callable[..., Workload]:
    """Return the application in an environment that brings these manifests along."""

    def build(**placement: str) -> Workload:
        environment = KubernetesEnvironment(
            name="staging", target="kubernetes", cluster="c", namespace="shop",
            applications={"hello": KubernetesPlacement(**placement)},
        )  # fmt: skip
        return Workload(DECLARATION, REF, environment, "registry.test")

    return build


@pytest.fixture
def read(toolbox: Toolbox, tmp_path: Path, workload: Callable[..., Workload]) -> Read:
    """Write files below a directory of deployments, and return what is rendered of them."""

    def write_and_read(files: dict[str, str], **placement: str) -> tuple[Document, ...]:
        for name, content in files.items():
            path = tmp_path / "deployments" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        placed = workload(**{"manifests": "hello", **placement})
        return read_brought(tmp_path / "deployments", placed, ManifestRenderer(toolbox.find))

    return write_and_read


class Listener:
    """A server of this machine that counts the requests that it gets."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests.append(self.path)
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_: object) -> None:
                """Stay silent."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def listener() -> Iterator[Listener]:
    found = Listener()
    threading.Thread(target=found.server.serve_forever, args=(0.01,), daemon=True).start()
    yield found
    found.server.shutdown()
    found.server.server_close()


def chart(**templates: str) -> dict[str, str]:
    """Return the files of a chart with these templates, and with the Deployment."""
    name = '{{ .Release.Name }}\n  namespace: "{{ .Release.Namespace }}"'
    deployment = DEPLOYMENT.format(name=name, image="{{ .Values.image }}")
    return {
        "hello/Chart.yaml": "apiVersion: v2\nname: hello\nversion: 1.0.0\n",
        "hello/values.yaml": "image: busybox\n",
        "hello/templates/deployment.yaml": deployment,
        **{f"hello/templates/{key}.yaml": text for key, text in templates.items()},
    }


def data(documents: tuple[Document, ...]) -> dict[str, str]:
    """Return the data of the ConfigMap."""
    (found,) = [each["data"] for each in documents if each["kind"] == "ConfigMap"]
    values: dict[str, str] = found
    return values


def test_kustomization_on_base_is_pinned(read: Read, workload: Callable[..., Workload]) -> None:
    """As plain manifests are; the overlay's names and patches have been applied."""
    documents = read(
        {
            "hello/base/kustomization.yaml": "resources: [deployment.yaml]\nimages: [{name: theirs, newName: hello}]\n",
            "hello/base/deployment.yaml": DEPLOYMENT.format(name="hello", image="theirs"),
            "hello/test/kustomization.yaml": (
                "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [../base]\n"
                "labels: [{pairs: {team: a}}]\npatches:\n- path: args.yaml\n"
                "configMapGenerator: [{name: pages, files: [index=index.html]}]\n"
            ),
            "hello/test/args.yaml": (
                "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: hello}\n"
                "spec: {template: {spec: {containers: [{name: application, args: [--fast]}]}}}\n"
            ),
            "hello/test/index.html": "hi",
        },
        manifests="hello/test",
    )

    assert data(documents) == {"index": "hi"}
    placed = workload(manifests="hello/test")
    (deployment,) = [each for kind, each in adopt(placed, render(placed), documents) if kind.name == "Deployment"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"registry.test/{REF}" and container["args"] == ["--fast"]
    assert deployment["metadata"]["labels"]["team"] == "a"


def test_chart_is_pinned_and_has_values_of_environment(read: Read, workload: Callable[..., Workload]) -> None:
    """Without them its own image would be refused; a chart in it is rendered too."""
    files = {
        **chart(),
        "hello/charts/pages/Chart.yaml": "apiVersion: v2\nname: pages\nversion: 1.0.0\n",
        "hello/charts/pages/templates/pages.yaml": PAGES,
        "values.yaml": "image: hello\n",
    }
    documents = read(files, values="values.yaml")
    placed = workload(manifests="hello", values="values.yaml")

    objects = adopt(placed, render(placed), documents)

    assert data(documents) == {"index": "hi"}
    (deployment,) = [each for kind, each in objects if kind.name == "Deployment"]
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == f"registry.test/{REF}"
    with pytest.raises(ManifestsRefused, match="no gate admitted busybox"):
        adopt(placed, render(placed), read(files))


def test_chart_cannot_look_up_objects_of_clusters(
    read: Read, listener: Listener, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Neither by `lookup`, nor by `getHostByName`, whatever this process may reach."""
    cluster = {"name": "c", "cluster": {"server": listener.url}}
    context = {"name": "c", "context": {"cluster": "c", "user": "c"}}
    document = {"apiVersion": "v1", "kind": "Config", "clusters": [cluster], "contexts": [context],
                "current-context": "c", "users": [{"name": "c", "user": {}}]}  # fmt: skip
    files = chart(
        pages=NAMED.format('"{{ lookup "v1" "Secret" "shop" "token" | toJson }}{{ getHostByName "localhost" }}"')
    )
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(document))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))

    assert data(read(files)) == {"index": "{}"}
    assert listener.requests == []


SCHEMA = """{"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
"properties": {"image": {"$ref": "#/$defs/name"}}, "additionalProperties": false, "$defs": {"name": {"type": "string"}}}
"""


def test_schema_of_values_is_applied(read: Read) -> None:
    """Of the chart and of charts in it, to the values of the environment too; the error says where they differ."""
    files = {**chart(), "hello/values.schema.json": SCHEMA}
    assert len(read(files)) == 1

    for values, message in (("image: 5", "at '/image': got number, want string"), ("imgae: x", "'imgae' not allowed")):
        with pytest.raises(ManifestsRefused, match=rf"(?s)helm template .*hello:\n- .*{message}") as raised:
            read({**files, "values.yaml": values}, values="values.yaml")
        assert raised.value.code == "manifests.refused"
    part = {"hello/charts/pages/Chart.yaml": "apiVersion: v2\nname: pages\nversion: 1.0.0\n",
            "hello/charts/pages/values.schema.json": SCHEMA}  # fmt: skip
    with pytest.raises(ManifestsRefused, match=r"(?s)pages:.*at '/image'"):
        read({**chart(), **part, "values.yaml": "pages: {image: 5}"}, values="values.yaml")


@pytest.mark.parametrize("reference", ["URL/schema", "file:///etc/hostname", "urn:any"])
def test_chart_schema_is_not_fetched_over_network(
    toolbox: Toolbox, listener: Listener, reference: str, tmp_path: Path
) -> None:
    """A file of the host it reads, and takes any name for anything: so such a schema is refused when it is read."""
    schema = f'{{"$ref": "{reference.replace("URL", listener.url)}"}}'
    files = {**chart(), "hello/values.schema.json": schema}
    renderer, release = ManifestRenderer(toolbox.find), Release("hello", "shop", "")

    with pytest.raises(ManifestsRefused) if reference != "urn:any" else nullcontext():
        renderer.template_chart({name: text.encode() for name, text in files.items()}, "hello", release)

    assert listener.requests == []
    (tmp_path / "hello").mkdir()
    (tmp_path / "hello/values.schema.json").write_text(schema)
    with pytest.raises(DeclarationInvalid, match="which is elsewhere"):
        read_chart(tmp_path, "hello", None)


def test_chart_reads_no_files_but_its_own(read: Read) -> None:
    """A path that leads out of it leads nowhere; so does what `.helmignore` names."""
    names = ("../secret", "../../../../../../../../etc/passwd", "/etc/passwd", "own")
    reads = "".join(f'{{{{ .Files.Get "{name}" }}}}|' for name in names)

    assert data(read({**chart(pages=NAMED.format(f"read:{reads}")), "secret": "s", "hello/own": "mine"})) == {
        "index": "read:|||mine|"
    }


def test_chart_hooks_are_refused_and_chart_tests_omitted(read: Read, workload: Callable[..., Workload]) -> None:
    """Nothing runs hooks: what rests on them would never be complete."""
    annotated = PAGES.replace("name: pages", 'name: pages, annotations: {"helm.sh/hook": KIND}')
    placed = workload(manifests="hello")
    assert len(read(chart(pages=annotated.replace("KIND", "test")))) == 1

    documents = read(chart(pages=annotated.replace("KIND", "pre-install")))

    with pytest.raises(ManifestsRefused, match=r"ConfigMap pages: it is a hook \(pre-install\)"):
        adopt(placed, render(placed), documents)


def test_definitions_of_chart_are_refused(read: Read, workload: Callable[..., Workload]) -> None:
    """To leave them out would deploy less than the chart is."""
    definition = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: a.example}\n"
    placed = workload(manifests="hello")

    documents = read({**chart(), "hello/crds/a.yaml": definition})

    with pytest.raises(ManifestsRefused, match=r"CustomResourceDefinition a\.example: apiextensions"):
        adopt(placed, render(placed), documents)


def test_missing_chart_dependency_is_refused_without_fetching(read: Read, listener: Listener) -> None:
    """It is not fetched."""
    files = chart()
    files["hello/Chart.yaml"] += f"dependencies: [{{name: redis, version: 1.0.0, repository: '{listener.url}'}}]\n"

    with pytest.raises(ManifestsRefused, match=r"helm template does not render the manifests(.|\n)*redis"):
        read(files)
    assert listener.requests == []


@pytest.mark.parametrize(
    "template",
    [
        '{{ range until 10000000 }}# a line\n{{ end }}',
        '{{ range until 3000 }}{{ range until 10 }}# a long line of a comment\n{{ end }}{{ end }}',
        '{{ define "a" }}{{ include "a" . }}{{ end }}{{ include "a" . }}',
        '{{ repeat 2000000000 "a" }}',
    ],
)  # fmt: skip
def test_endless_template_is_refused(read: Read, template: str) -> None:
    """Its time, memory and output are limited."""
    with pytest.raises((ManifestsRefused, DeclarationInvalid), match=r"does not render|than 256 KiB"):
        read(chart(pages=PAGES + template))


FUNCTION = """
apiVersion: example.com/v1
kind: Function
metadata:
  name: function
  annotations:
    config.kubernetes.io/function: |
      exec: {path: ./run.sh}
"""


@pytest.mark.parametrize("key", ["generators", "transformers", "validators"])
def test_kustomize_itself_runs_no_function(toolbox: Toolbox, tmp_path: Path, key: str) -> None:
    """Such a key is refused when the kustomization is read; this is what would happen if it were not."""
    ran = tmp_path / "ran"
    files = {
        "hello/kustomization.yaml": f"{key}: [function.yaml]\nresources: [pages.yaml]\n",
        "hello/function.yaml": FUNCTION,
        "hello/pages.yaml": PAGES,
        "hello/run.sh": f"#!/bin/sh\n/bin/touch {ran}\n",
    }

    with pytest.raises(ManifestsRefused, match="kustomize build does not render"):
        ManifestRenderer(toolbox.find).build_kustomization({k: v.encode() for k, v in files.items()}, "hello")
    assert not ran.exists()


@pytest.mark.parametrize(
    "text",
    [
        "resources: ['URL/all.yaml']",
        "resources: ['URL/shop.git']",
        "patches: [{path: 'URL/patch.yaml'}]\nresources: [pages.yaml]",
        "helmCharts: [{name: a, repo: 'URL', version: 1.0.0}]",
        "resources: [../secret.yaml]",
        "configMapGenerator: [{name: a, files: [../secret.yaml]}]",
        "configMapGenerator: [{name: a, files: [/etc/passwd]}]",
    ],
)
def test_kustomization_cannot_read_urls_or_other_directories(toolbox: Toolbox, listener: Listener, text: str) -> None:
    """Also what reading lets through: a file of another directory that is read for a base."""
    files = {"hello/kustomization.yaml": text.replace("URL", listener.url), "hello/pages.yaml": PAGES,
             "secret.yaml": PAGES}  # fmt: skip

    with pytest.raises(ManifestsRefused, match="kustomize build does not render"):
        ManifestRenderer(toolbox.find).build_kustomization({k: v.encode() for k, v in files.items()}, "hello")
    assert listener.requests == []
