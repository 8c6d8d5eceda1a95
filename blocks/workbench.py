"""The block of the workbench: tools, vulnerability database and build settings of the machine that runs the chain."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import AwareDatetime, Field

from blocks.inventory import Inventory
from blocks.setting import Setting
from orchestration.clock import read_clock
from supply_chain.adapters.debian_archive import DebianArchives
from supply_chain.adapters.docker.buildx import find_client
from supply_chain.adapters.docker.dockerfile import BuildKitReader
from supply_chain.adapters.files.private_files import PrivateFiles
from supply_chain.adapters.git.repository import read_remote
from supply_chain.adapters.npm_registry import NpmRegistries
from supply_chain.adapters.process.command import Tool
from supply_chain.adapters.python_index import PythonIndexes
from supply_chain.adapters.registry.content_cache import ContentCache
from supply_chain.adapters.tools import Pins, Toolbox
from supply_chain.adapters.tools.cosign import read_signing_variables, sign_for_person
from supply_chain.adapters.tools.grype import Grype
from supply_chain.adapters.vulndb import pin_database
from supply_chain.adapters.vulndb.report_cache import ReportCache
from supply_chain.adapters.vulndb.scanner import make_grype_scanner
from supply_chain.development.bases import REGISTRIES
from supply_chain.development.content import (
    DEBIAN_ARCHIVES,
    NPM_REGISTRIES,
    PYTHON_INDEXES,
    DebianArchiveLine,
    NpmRegistryUrl,
    PackageIndexUrl,
)
from supply_chain.errors import PolicyUnsigned, SupplyChainError
from supply_chain.evidence.statement import Statement
from supply_chain.execution.environment import DockerEnvironment, Environment, KubernetesEnvironment
from supply_chain.execution.environment_documents import (
    EnvironmentDocuments,
    read_environment,
    read_environment_documents,
)
from supply_chain.execution.signed_project import (
    ProjectState,
    find_environment_state,
    read_project_state,
    require_active_environment,
)
from supply_chain.fleet.preview import PolicyPreview, preview
from supply_chain.lifecycle.rules import Rules, read_rules
from supply_chain.model.declaration import Classification
from supply_chain.policy.activation import Activation, PolicyState
from supply_chain.policy.facts import EnvironmentRequirements
from supply_chain.policy.loading import DIRECTORY as POLICIES
from supply_chain.policy.loading import (
    REGISTER,
    compile_policies,
    read_active_policies,
    read_active_register,
    read_documents,
    read_project_activation,
    read_unsigned_policies,
    replace_policies,
)
from supply_chain.policy.names import Holder, NameRegister, read_register
from supply_chain.policy.people import FILE as PEOPLE
from supply_chain.policy.people import TRUSTED_ROOT, People, PeopleOwner, read_people
from supply_chain.policy.policies import Policies
from supply_chain.policy.proposals import SignedDecisions, sort_proposals
from supply_chain.policy.reviews import DIRECTORY as REVIEWS
from supply_chain.policy.reviews import read_reviews
from supply_chain.policy.vex import DIRECTORY as VEX
from supply_chain.policy.vex import read_signed_vex
from supply_chain.policy.waivers import DIRECTORY as WAIVERS
from supply_chain.policy.waivers import read_signed_waivers
from supply_chain.vulnerability.findings import Database
from supply_chain.vulnerability.scanner import Scanner

if TYPE_CHECKING:
    from supply_chain.adapters.database.preview import StoredJudge

CHEAPER = {"GOGC": "800", "GOMAXPROCS": "1"}
"""Settings that make a scan cheaper, because other processors run other scans.

grype collects garbage less often, and on one processor. It needs a fifth less processor time and about 20 MiB more
memory.
"""


class Workbench(Setting):
    """Tools, vulnerability database and build settings of a machine that runs the chain."""

    _block_type_name: ClassVar[str] = "Supply Chain Workbench"
    _block_type_slug: ClassVar[str] = "supply-chain-workbench"
    _description: ClassVar[str] = "Tools, vulnerability database and build settings of the machine that runs the chain."

    project: str = Field(title="Project", description="The directory of the project.")
    tools: str = Field(title="Tools", description="The directory of the pinned tools.")
    database: str = Field(title="Vulnerability database", description="The directory of grype's database.")
    results: str | None = Field(
        default=None,
        title="Results",
        description="The directory of the cache of scans and evidence, which this user owns; empty: `results` next "
        "to the database.",
    )
    build_host: str = Field(
        default="laptop",
        title="Build host",
        description="The name of the container host that builds and tests images.",
    )
    build_network: Literal["default", "none"] = Field(
        default="default",
        title="Build network",
        description="The network of build steps: the engine's bridge, or none.",
    )
    ca_bundle: str | None = Field(
        default=None,
        title="CA bundle",
        description="The certificates that build steps trust; they are never part of a layer.",
    )
    bases: dict[str, str] = Field(
        default_factory=dict,
        title="Upstream bases",
        description="Curated base → the upstream image, by digest, that replaces it.",
    )
    registries: tuple[str, ...] = Field(
        default=REGISTRIES,
        title="Upstream registries",
        description="The registries from which applications may declare images (docs/how-to/bases.md).",
    )

    python_indexes: tuple[PackageIndexUrl, ...] = Field(
        default=PYTHON_INDEXES,
        title="Python package indexes",
        description="The URLs of package indexes, with which Python packages in images are compared; none: the "
        "packages' own records count.",
    )
    debian_archives: tuple[DebianArchiveLine, ...] = Field(
        default=DEBIAN_ARCHIVES,
        title="Debian archives",
        description="The archives with which Debian packages in images are compared, as in sources.list without `deb`; "
        "none: the packages' own records count.",
    )
    npm_registries: tuple[NpmRegistryUrl, ...] = Field(
        default=NPM_REGISTRIES,
        title="npm registries",
        description="The URLs of registries, with which npm packages in images are compared; none: the packages' own "
        "metadata count.",
    )

    people_owner: str = Field(
        default="",
        title="Owner of the people document",
        description="The public key (PEM) that verifies deployments/people.yaml; without it no person may decide.",
    )
    installation: str = Field(
        default="",
        title="Installation",
        description="The name that deployments/people.yaml has to state; empty: any. Without it, whoever can change "
        "the project's files can put back a document of another installation with the same owner.",
    )
    policies_signed_since: AwareDatetime | None = Field(
        default=None,
        title="Policies signed since",
        description="Signatures of policies, environments and names before this time do not count, nor does what ships "
        "with the project unsigned; empty: any signature counts, and what ships needs none.",
    )
    lifting_decisions: Literal["signed", "any"] = Field(
        default="any",
        title="Lifting blocks and holds",
        description="signed: only a person's signature ends a block or a hold (docs/how-to/approvals.md); any: also an "
        "unverified name.",
    )
    lifecycle: Literal["plan", "apply"] = Field(
        default="plan",
        title="Lifecycle",
        description="Whether lifecycle/nightly only plans, or also applies the plan.",
    )

    notify: str = Field(
        default="supply-chain-log/operators",
        title="Notification",
        description="The block that notifies owners and operators, as type/name.",
    )

    @cached_property
    def toolbox(self) -> Toolbox:
        """The pinned tools."""
        return Toolbox(Path(self.tools), Pins.load(Path(self.project) / "deployments/tools.yaml"))

    def tool(self, name: str) -> Tool:
        """Return a pinned tool; raise `ToolMissing` if it is not installed."""
        return self.toolbox.find(name)

    @cached_property
    def docker(self) -> Tool:
        """The Docker client, which loads images into the engine and pushes them."""
        return Tool("docker", find_client(os.environ.get("PATH", os.defpath)), "system")

    @property
    def dockerfile_reader(self) -> BuildKitReader:
        """The reader of Dockerfiles and ignore files."""
        return BuildKitReader(self.tool("dockerfile-reader"))

    def find_excluded(self, ignore: bytes, paths: Sequence[str]) -> frozenset[str]:
        """Return the paths that an ignore file excludes from a build."""
        return self.dockerfile_reader.find_excluded(ignore, paths)

    def scanner(self) -> Scanner:
        """Return the scanner, with this workbench's database and no other."""
        return make_grype_scanner(self.tool("grype"), Path(self.database), read_clock)

    @contextmanager
    def pinned_scanner(self) -> Iterator[Scanner]:
        """Yield the scanner with the current database, which does not change until the block ends."""
        with pin_database(self.tool("grype"), Path(self.database)) as pinned:
            yield Grype(
                tool=self.tool("grype"),
                environment=pinned.environment,
                database=pinned.database,
                knows=pinned.knows,
                now=read_clock,
                cost=CHEAPER,
                quiet=True,
                publications=pinned.publications,
            )

    @property
    def report_cache(self) -> ReportCache:
        """Cache of the scan reports that this machine made."""
        return ReportCache(self._cache_directory / "reports")

    @property
    def content_cache(self) -> ContentCache:
        """Cache of the content that this machine read from the registry by digest."""
        return ContentCache(self._cache_directory / "content")

    @cached_property
    def python_index(self) -> PythonIndexes | None:
        """The package indexes with which Python packages in images are compared; None if there are none."""
        if not self.python_indexes:
            return None
        return PythonIndexes(self.python_indexes, PrivateFiles(self._cache_directory / "python"), self._certificates)

    @cached_property
    def debian_archive(self) -> DebianArchives | None:
        """The archives with which Debian packages in images are compared; None if there are none."""
        if not self.debian_archives:
            return None
        return DebianArchives(self.debian_archives, PrivateFiles(self._cache_directory / "debian"), self._certificates)

    @cached_property
    def npm_registry(self) -> NpmRegistries | None:
        """The registries with which npm packages in images are compared; None if there are none."""
        if not self.npm_registries:
            return None
        return NpmRegistries(self.npm_registries, PrivateFiles(self._cache_directory / "npm"), self._certificates)

    @property
    def _certificates(self) -> Path | None:
        return Path(self.ca_bundle) if self.ca_bundle else None

    def forget_stale(self, database: Database) -> None:
        """Remove cache entries that will not be read again: those of other databases, and those not read recently."""
        self.report_cache.forget_others(database.digest)
        self.content_cache.forget_unused()
        for each in (self.python_index, self.debian_archive, self.npm_registry):
            if each:
                each.forget_unused()

    @property
    def _cache_directory(self) -> Path:
        return Path(self.results) if self.results else Path(self.database).with_name("results")

    @property
    def environments_directory(self) -> Path:
        """Directory of the environments' documents."""
        return Path(self.project) / "deployments/environments"

    def environment(self, name: str) -> DockerEnvironment | KubernetesEnvironment:
        """Return an environment by its name; raise `SettingInvalid` if it does not exist or its document is invalid."""
        return read_environment(self.environments_directory, name)

    def active_requirements(self, environment: Environment) -> EnvironmentRequirements:
        """Return what an environment requires at the deploy gate; raise as `requirements`.

        Raise `PolicyUnsigned` if it is not active, or the environment in which an image has to soak before.
        """
        activation = self._activation()
        active = require_active_environment(environment, activation)
        return active.requirements(lambda name: require_active_environment(self.environment(name), activation))

    def environment_state(self, environment: Environment) -> PolicyState:
        """Return whether what decides in an environment is active."""
        return find_environment_state(environment, self._activation())

    def requirements(self, name: str) -> EnvironmentRequirements:
        """Return what an environment requires of an image; raise as `environment`, or if its soak is undefined."""
        return self.environment(name).requirements(self.environment)

    def valid_environment(self, name: str) -> DockerEnvironment | KubernetesEnvironment:
        """Return an environment to which may be deployed; raise as `EnvironmentDocuments.find_valid`."""
        return self.environment_documents().find_valid(name)

    def environment_documents(self) -> EnvironmentDocuments:
        """Return the environments that can be read, in the order of their names, and why others cannot."""
        return read_environment_documents(self.environments_directory)

    def production_environments(self) -> frozenset[str]:
        """Return the environments that users reach, or may reach, because their documents cannot be read."""
        documents = self.environment_documents()
        return frozenset([*documents.unreadable, *(each.name for each in documents.readable if each.production)])

    def unknown_environments(self, documents: EnvironmentDocuments) -> Mapping[str, SupplyChainError]:
        """Return name of an environment → why nobody knows where it is: its document cannot be read, or is not active.

        Whoever changed it without a signature may have named another host.
        """
        unknown, activation = dict[str, SupplyChainError](documents.unreadable), self._activation()
        for each in documents.readable:
            try:
                require_active_environment(each, activation)
            except PolicyUnsigned as error:
                unknown[each.name] = error
        return unknown

    def rules(self, name: str) -> Rules:
        """Return the lifecycle's rules with this name, after checking that they do what their tests expect."""
        return read_rules(Path(self.project) / "deployments/lifecycle", name)

    def policies(self) -> Policies:
        """Return the active policies of the gates with people and waivers, after running the tests of their rules.

        Raises `PolicyUnsigned` if they are not active.
        """
        return read_active_policies(Path(self.project), self._owner, self.policies_signed_since, read_clock())

    def check_policies(self) -> None:
        """Check the policies before a gate needs them; it says what is wrong with them."""
        with suppress(SupplyChainError):
            self.policies()

    def unsigned_policies(self) -> Policies:
        """Return the same policies, signed or not, for what decides nothing."""
        return read_unsigned_policies(Path(self.project), self._owner, read_clock())

    def project_state(self, project: Path) -> ProjectState:
        """Return whether the policies, names and environments of a project would be active at these gates."""
        return read_project_state(project, self._owner, self.policies_signed_since, read_clock())

    @property
    def _owner(self) -> PeopleOwner:
        return PeopleOwner(self.people_owner, self.installation)

    def _activation(self) -> Activation:
        return read_project_activation(Path(self.project), self._owner, self.policies_signed_since, read_clock())

    def people(self) -> People:
        """Return the people who may decide, if the owner of their document signed it."""
        return read_people(Path(self.project) / PEOPLE, self._owner, read_clock())

    def sign_as_person(self, key: str, statement: Statement) -> bytes:
        """Return a bundle of a statement, signed with a person's key or keyless; a password is in the environment.

        Raises the errors of `cosign.sign_for_person`.
        """
        cosign = self.tool("cosign").with_environment(**read_signing_variables())
        return sign_for_person(cosign, key, statement, Path(self.project) / TRUSTED_ROOT.parent)

    def stored_judge(self, proposed: Mapping[str, str], people: People, inventory: Inventory) -> StoredJudge:
        """Return what judges an inventory's facts by the policies of the gates, and by proposed documents, now.

        `proposed` is file name → text of a policy, a waiver or a VEX document. `people` are those of the project.
        Raises `DeclarationInvalid` or `PolicyInvalid` for an invalid one.
        """
        from supply_chain.adapters.database.preview import StoredJudge  # noqa: PLC0415 - as in `blocks.inventory`

        project, proposal, at = Path(self.project), sort_proposals(proposed), read_clock()
        directory = project / POLICIES
        documents = read_documents(directory)
        names = tuple(sorted(each.stem for each in self.environments_directory.glob("*.yaml")))
        current = compile_policies(documents, names, directory)
        signed = SignedDecisions(
            people,
            read_signed_waivers(project / WAIVERS, people, at),
            read_signed_vex(project / VEX, people, at),
        )
        waivable = replace_policies(current, proposal.policies, names).waivable
        decisions = signed.propose(proposal, current.waivable, waivable, at)
        address = inventory.address.get_secret_value()
        reviews = read_reviews(project / REVIEWS, people, at)
        return StoredJudge(address, directory, documents, proposal.policies, decisions, reviews, names, at)

    def preview(self, proposed: Mapping[str, str], inventory: Inventory) -> PolicyPreview:
        """Return what proposed documents, as for `stored_judge`, change for what an inventory stores."""
        people = self.people()
        judge = self.stored_judge(proposed, people, inventory)
        return preview(
            judge.inventory,
            judge.compare(),
            self.requirements,
            people,
            self.unsigned_names().minimum_classification,
            judge.judge,
        )

    def names(self) -> NameRegister:
        """Return the register of application names that the owner of the platform maintains, if it is active."""
        return read_active_register(Path(self.project), self._owner, self.policies_signed_since, read_clock())

    def registered(self, name: str, directory: Path | None = None) -> Holder | None:
        """Return the registered holder of a name; `project` stands for the repository of the project's checkout.

        If `directory`, the real path of what is built, is outside of the checkout, `project` matches no source:
        whoever configures a clone chooses the remote that it names.
        """
        holder, project = self.names().of(name), Path(self.project).resolve()
        if holder is None or holder.sources is None:
            return holder
        outside = directory is not None and not directory.is_relative_to(project)
        return holder.with_project(None if outside else read_remote(project))

    def minimum_classification(self, name: str) -> Classification | None:
        """Return the lowest classification that may be declared under a name, by the active register of names."""
        return self.names().minimum_classification(name)

    def unsigned_names(self) -> NameRegister:
        """Return the register of application names for what decides nothing, signed or not."""
        return read_register(Path(self.project) / REGISTER)

    @property
    def version(self) -> str:
        """Version of the project, which every build records."""
        return installed_version("container-supply-chain")
