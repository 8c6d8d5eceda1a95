"""Where an image stands: whatever was announced, twice, late or never, the signed statements say what is left to do."""

from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from supply_chain.app import Probe
from supply_chain.container import profile
from supply_chain.errors import SettingInvalid
from supply_chain.evidence.approval import Approval
from supply_chain.evidence.soak import Soak
from supply_chain.evidence.standing import standing_place
from supply_chain.evidence.statement import APPROVAL, LIFECYCLE, PROVENANCE, SIGNATURE, SOAK, SUMMARY
from supply_chain.evidence.summary import summary
from supply_chain.execution.deploy import Deployment
from supply_chain.execution.environment import Environment
from supply_chain.execution.records import record
from supply_chain.image import ImageRef
from supply_chain.policy.verdict import execution_place, verdict_places
from supply_chain.promotion import offered
from supply_chain.promotion.offered import missed_by_curation, to_curation
from supply_chain.promotion.vended import View, following, missed_by_execution, to_environment
from supply_chain.tier import Boundary, TierName
from tests.unit.pieces import Pieces

DEV, CURATION, EXECUTION = TierName.DEVELOPMENT, TierName.CURATION, TierName.EXECUTION
PLACES = ("staging", "production")
POLICY = "sha256:" + "9" * 64


def digest(number):
    return f"sha256:{number:064x}"


@dataclass
class Chain:
    """One application's images, by number; the last one pushed has the highest."""

    pieces: Pieces
    make: object
    offered: list[int] = field(default_factory=list)
    vended: list[int] = field(default_factory=list)
    archived: list[int] = field(default_factory=list)
    running: dict[str, int] = field(default_factory=dict)
    approval: str = "none"
    asked: int | None = 60
    placed: tuple[str, ...] = PLACES
    others: tuple[str, ...] = ()
    after: str | None = None

    def dev(self, number):
        return ImageRef(repository="dev/hello", digest=digest(number))

    def curated(self, number):
        return ImageRef(repository="curated/hello", digest=digest(number))

    def offer(self, number, *, signed=True, **declared):
        self.offered.append(number)
        if signed:
            self.pieces.attach(self.dev(number), DEV, PROVENANCE, self._provenance(number, declared))

    def _provenance(self, number, declared):
        what = {"environments": list(PLACES), **declared}
        return self.make.provenance(built={"digest": digest(number)}, **what)

    def judge(self, number, boundary, *codes, hour=0):
        """A verdict: a yes without reasons."""
        ref = self.dev(number) if boundary is Boundary.TO_CURATION else self.curated(number)
        where = verdict_places(ref, boundary, admitted=not codes)[0]
        signer = EXECUTION if boundary is Boundary.TO_EXECUTION else CURATION
        reasons = [{"code": code, "fact": "f", "remedy": "r"} for code in codes]
        at = self.make.noon + timedelta(hours=hour)
        said = summary(ref, boundary, POLICY, reasons=reasons, notes=(), inputs=(), now=at)
        self.pieces.attach(where, signer, SUMMARY, said.predicate())

    def vend(self, number, hour=0, **declared):
        self.vended.append(number)
        self.pieces.attach(self.curated(number), DEV, PROVENANCE, self._provenance(number, declared))
        self.judge(number, Boundary.TO_CURATION)
        self.judge(number, Boundary.CURATION, hour=hour)
        self.pieces.attach(self.curated(number), CURATION, SIGNATURE, {})

    def deploy(self, number, environment="staging", container="1", hour=0):
        self.running[environment] = number
        known = Deployment(
            environment=environment, application="hello", digest=digest(number), container=container, name="n",
            front="2",
            proxy=digest(0), address="127.0.0.1", port=8080, probe=Probe(port=8080), settings={},
            profile=profile(self.make.manifest().runtime), configuration=digest(0), changed=True,
            started_at=self.make.noon,
        )  # fmt: skip
        at = self.make.noon + timedelta(hours=hour)
        record(known, self.curated(number), self.pieces.world.store(EXECUTION), at)

    def soak(self, number, environment="staging", signer=EXECUTION, seconds=60, container="1"):
        until = self.make.noon + timedelta(seconds=seconds)
        said = Soak(environment=environment, digest=digest(number), container=container, since=self.make.noon,
                    until=until, looks=2, asked=seconds)  # fmt: skip
        self.pieces.attach(self._evidence(number), signer, SOAK, said.predicate())

    def decide(self, number, decision, environment="production", hour=0, signer=EXECUTION):
        at = self.make.noon + timedelta(hours=hour)
        said = Approval(environment=environment, digest=digest(number), decision=decision, who="Ada", why="so",
                        decided=at)  # fmt: skip
        self.pieces.attach(self._evidence(number), signer, APPROVAL, said.predicate())

    def _evidence(self, number):
        return execution_place(self.curated(number))

    # what a registry and an operator's files say

    def newest_first(self, repository, *, archived=False):
        if repository in self.others:
            return (ImageRef(repository=repository, digest=digest(1)),)
        numbers = self.offered if repository.startswith("dev/") else self.vended
        if not archived:
            numbers = [number for number in numbers if number not in self.archived]
        return tuple(ImageRef(repository=repository, digest=digest(n)) for n in sorted(numbers, reverse=True))

    def repositories(self, prefix):
        known = ("curated/hello", "dev/hello", *self.others)
        return tuple(sorted(name for name in known if name.startswith(prefix)))

    def read(self, name):
        if name not in PLACES:
            raise SettingInvalid(f"There is no environment {name!r}.\nThere are others.")
        places = {"hello": {"port": 8080}} if name in self.placed else {}
        approval = self.approval if name == "production" else "none"
        after = self.after if name == "production" else None
        return Environment(name=name, applications=places, approval=approval, soak=self.asked, after=after)

    def current(self, application, environment):
        assert application == "hello"
        number = self.running.get(environment)
        return None if number is None else self.curated(number)

    # what is asked

    def to_curation(self, number):
        return to_curation(self.dev(number), self, self.pieces.world.store(CURATION))

    def onward(self, number, after=None):
        return to_environment(self.curated(number), after, self._view)

    def missed(self):
        return (*missed_by_curation(self, self.pieces.world.store(CURATION)), *missed_by_execution(self._view))

    @property
    def _view(self):
        return View(self, self.pieces.world.store(EXECUTION), self.read, self.current)


@pytest.fixture
def chain(world, make):
    return Chain(Pieces(world, make), make)


def test_an_offered_image_goes_to_curation(chain):
    """That is what a push is for."""
    chain.offer(1)

    assert chain.to_curation(1).to == "curation"


def test_an_image_without_provenance_may_still_get_it(chain):
    """Whoever builds it pushes first and signs then; nothing was decided, so that the next look decides."""
    chain.offer(1, signed=False)

    move = chain.to_curation(1)
    assert (move.to, move.waits) == ("", True)


@pytest.mark.parametrize(
    ("boundary", "why"), [(Boundary.TO_CURATION, "boundary-1: x.y"), (Boundary.CURATION, "curation: x.y")]
)
def test_an_image_that_was_refused_stays_where_it_is(chain, boundary, why):
    """A second event asks no gate again."""
    chain.offer(1)
    chain.judge(1, boundary, "x.y")

    move = chain.to_curation(1)
    assert (move.to, move.waits) == ("", False)
    assert why in move.why


def test_a_refusal_after_it_was_vended_counts(chain):
    """The last word is a no."""
    chain.offer(1)
    chain.vend(1)
    chain.judge(1, Boundary.TO_CURATION, "x.y", hour=1)

    assert "refused" in chain.to_curation(1).why


def test_an_image_that_is_vended_is_not_curated_again(chain):
    """An event that comes twice changes nothing."""
    chain.offer(1)
    chain.vend(1)

    assert chain.to_curation(1).why == "it is vended"


def test_what_a_run_left_halfway_is_taken_up_again(chain):
    """Admitted and stored, and the run that did it ended before it signed."""
    chain.offer(1)
    chain.judge(1, Boundary.TO_CURATION)

    assert chain.to_curation(1).to == "curation"


def test_only_the_newest_offered_image_goes_on(chain):
    """A late event of an old push brings nothing old back."""
    chain.offer(1)
    chain.offer(2)

    assert "was pushed after it" in chain.to_curation(1).why
    assert chain.to_curation(2).to == "curation"


def test_a_vended_image_goes_to_the_first_environment_that_it_declares(chain):
    """And to the next once it has soaked there."""
    chain.vend(1)
    assert chain.onward(1).to == "staging"

    chain.deploy(1)
    assert chain.onward(1).why == "it was deployed to staging"
    assert chain.onward(1, after="staging").why == "it has not soaked in staging yet, well for 0:01:00 without a break"

    chain.soak(1)
    move = chain.onward(1, after="staging")
    assert (move.to, move.after, move.asks) == ("production", "staging", False)


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (61, "it has soaked in staging for 0:01:00 of 0:01:01"),
        (None, "staging says no `soak`, so that nothing goes on from there"),
    ],
)
def test_a_soak_counts_for_what_the_environment_asks_today(chain, asked, why):
    """Who asks for more, or lets nothing go on any more, is heard."""
    chain.vend(1)
    chain.deploy(1)
    chain.soak(1, seconds=60)
    assert chain.onward(1, after="staging").to == "production"
    chain.asked = asked

    assert chain.onward(1, after="staging").why == why


def test_what_nobody_signed_holds_nothing_up(chain):
    """Whoever may push cannot keep a signed image from going on."""
    chain.offer(1)
    for number in range(2, 30):
        chain.offer(number, signed=False)

    assert chain.to_curation(1).to == "curation"
    assert [(move.image, move.to) for move in chain.missed()] == [(chain.dev(1), "curation")]
    assert chain.to_curation(2).waits


def test_where_too_much_is_unsigned_it_is_told(chain, monkeypatch):
    """A look has to end somewhere; what was signed before may lie behind that."""
    monkeypatch.setattr(offered, "RECENT", 3)
    chain.offer(1)
    for number in range(2, 6):
        chain.offer(number, signed=False)

    assert "development signed none of the 3 images of dev/hello" in chain.to_curation(1).why
    ((image, why, unreadable),) = [(move.image, move.why, move.unreadable) for move in chain.missed()]
    assert (image, unreadable) == (chain.dev(5), True) and "none of the 3" in why


def test_what_nobody_can_pull_is_not_curated(chain):
    """It was removed, or is archived, since it was announced."""
    chain.offer(2)

    assert "can be pulled" in chain.to_curation(1).why


def test_where_nothing_was_ever_offered_nothing_is_missed(chain):
    """Whoever pushes may still be signing."""
    chain.offer(1, signed=False)

    assert chain.missed() == ()


def test_a_soak_of_a_container_that_was_replaced_counts_no_more(chain):
    """It says nothing of the same image with another configuration; a newer image in its place takes nothing away."""
    chain.vend(1)
    chain.deploy(1)
    chain.soak(1)
    assert chain.onward(1, after="staging").to == "production"

    chain.deploy(1, container="3", hour=1)
    assert "has not soaked in staging yet" in chain.onward(1, after="staging").why
    chain.soak(1, container="3")
    assert chain.onward(1, after="staging").to == "production"

    chain.running["staging"] = 2
    assert chain.onward(1, after="staging").to == "production"


def test_what_never_ran_there_did_not_soak(chain):
    """An event could say so."""
    chain.vend(1)
    chain.soak(1)

    assert chain.onward(1, after="staging").why == "it was never deployed to staging"


def test_a_soak_that_execution_did_not_sign_is_none(chain):
    """Whoever may push could attach one."""
    chain.vend(1)
    chain.deploy(1)
    chain.soak(1, signer=CURATION)

    assert chain.onward(1, after="staging").why == "it has not soaked in staging yet, well for 0:01:00 without a break"


def test_where_the_environment_wants_approval_a_person_is_asked_once(chain):
    """A yes is enough, a no ends it, and a later yes begins it again."""
    chain.approval = "required"
    chain.vend(1)
    chain.deploy(1)
    chain.soak(1)
    assert chain.onward(1, after="staging").asks

    chain.decide(1, "denied")
    assert chain.onward(1, after="staging").why == "Ada denied it for production: so"

    chain.decide(1, "approved", hour=1)
    move = chain.onward(1, after="staging")
    assert (move.to, move.asks) == ("production", False)


def test_an_approval_that_another_tier_signed_is_none(chain):
    """Only execution asks people."""
    chain.approval = "required"
    chain.vend(1)
    chain.deploy(1)
    chain.soak(1)
    chain.decide(1, "approved", signer=CURATION)

    assert chain.onward(1, after="staging").asks


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"environments": []}, "it declares no environment"),
        ({"environments": ["nowhere"]}, "There is no environment 'nowhere'"),
    ],
)
def test_an_image_goes_only_where_it_says_and_where_there_is_a_place(chain, changes, why):
    """Nothing is started that could only fail."""
    chain.vend(1, **changes)

    assert chain.onward(1).why == why


def test_an_application_without_a_place_there_is_not_deployed(chain):
    """Whoever runs the environment decides what runs in it."""
    chain.placed = ("production",)
    chain.vend(1)

    assert chain.onward(1).why == "hello has no place in staging"


def test_a_base_and_an_image_without_provenance_go_nowhere(chain, make):
    """A base is built upon; of the other nobody knows where it may run."""
    base = make.base(name="hello")
    declared = {**base.model_dump(mode="json", exclude_none=True), "test": None, "probe": None}
    chain.vend(1, **{key: declared[key] for key in ("kind", "check")}, test=None, probe=None, environments=None)

    assert chain.onward(1).why == "it is no service"
    assert chain.onward(2).why == "development signed no provenance of it"


def test_what_curation_does_not_vend_goes_nowhere(chain):
    """Its last verdict is a no."""
    chain.vend(1)
    chain.judge(1, Boundary.CURATION, "x.y", hour=1)

    assert chain.onward(1).why == "curation does not vend it"


def test_a_refusal_at_boundary_2_stays_one(chain):
    """The gate is not asked again by events."""
    chain.vend(1)
    chain.judge(1, Boundary.TO_EXECUTION, "scan.high")

    assert chain.onward(1).why == "it was refused at boundary-2: scan.high"


@pytest.mark.parametrize(("codes", "goes"), [
    (("base.blocked",), True), (("image.blocked", "verdict.curation.refused"), True),
    (("image.blocked", "approval.missing", "scan.old"), True), (("base.blocked", "scan.high"), False),
])  # fmt: skip
def test_a_refusal_for_a_block_ends_with_it(chain, codes, goes):
    """Once curation said yes again, which rests on the block's end."""
    chain.vend(1)
    chain.judge(1, Boundary.TO_EXECUTION, *codes, hour=1)
    assert "refused at boundary-2" in chain.onward(1).why

    chain.judge(1, Boundary.CURATION, hour=2)

    assert (chain.onward(1).to == "staging") is goes


@pytest.mark.parametrize(("acts", "goes"), [(("block",), False), (("block", "unblock"), True)])
def test_what_was_blocked_before_it_was_curated_goes_on_once_that_is_lifted(chain, acts, goes):
    """Nobody has to push it again."""
    chain.offer(1)
    chain.judge(1, Boundary.TO_CURATION, "image.blocked")
    for number, act in enumerate(acts):
        at = (chain.make.noon + timedelta(seconds=number)).isoformat()
        said = {"act": act, "by": "ann", "why": "a key in it", "at": at}
        chain.pieces.attach(standing_place(chain.dev(1)), TierName.LIFECYCLE, LIFECYCLE, said)

    assert (chain.to_curation(1).to == "curation") is goes


@pytest.mark.parametrize("code", ["approval.missing", "placement.not-declared"])
def test_a_refusal_for_one_environment_says_nothing_of_another(chain, code):
    """Somebody tried production by hand before its time."""
    chain.vend(1)
    chain.judge(1, Boundary.TO_EXECUTION, code)

    assert chain.onward(1).to == "staging"


def test_an_old_image_never_takes_the_place_of_a_newer_one(chain):
    """Late events and long approvals end there."""
    chain.vend(1)
    chain.deploy(1)
    chain.soak(1)
    chain.vend(2)
    assert chain.onward(1, after="staging").to == "production"

    chain.running["production"] = 2
    assert "runs there, and was curated after it" in chain.onward(1, after="staging").why


def test_an_old_image_does_not_take_the_place_of_a_newer_one_that_was_blocked(chain):
    """Its archive is not in the registry's list of what can be pulled: what runs there is newer all the same."""
    chain.vend(1)
    chain.vend(2)
    chain.deploy(2)
    chain.archived.append(2)

    assert "runs there, and was curated after it" in chain.onward(1).why
    assert chain.missed() == ()
    chain.vend(3)
    assert [(move.image, move.to) for move in chain.missed()] == [(chain.curated(3), "staging")]


def test_a_newer_one_that_was_blocked_before_it_ran_stands_in_nobodys_way(chain):
    """Nothing of it is there."""
    chain.vend(1)
    chain.vend(2)
    chain.archived.append(2)

    assert chain.onward(1).to == "staging"


def test_where_the_registry_has_lost_what_runs_only_what_was_judged_later_takes_its_place(chain):
    """Of the rest nobody can tell whether it is newer; a person can, and deploys it by hand."""
    chain.vend(1)
    chain.vend(2)
    chain.deploy(2)
    chain.vended.remove(2)

    assert "nobody can tell which is newer" in chain.onward(1).why
    assert chain.missed() == ()
    chain.vend(3, hour=1)
    assert chain.onward(3).to == "staging"
    chain.running["staging"] = 4  # of which no record is there
    assert "nobody can tell which is newer" in chain.onward(3).why


def test_a_newer_vended_image_goes_first(chain):
    """The event of the older one came late."""
    chain.vend(1)
    chain.vend(2)

    assert "was curated after it" in chain.onward(1).why
    assert chain.onward(2).to == "staging"


def test_a_newer_image_that_is_not_vended_stands_in_nobodys_way(chain):
    """It was refused, or is still on its way."""
    chain.vend(1)
    chain.vended.append(2)

    assert chain.onward(1).to == "staging"


@pytest.mark.parametrize(("after", "to"), [(None, "a"), ("a", "b"), ("b", "c"), ("c", None), ("elsewhere", None)])
def test_environments_follow_each_other_as_declared(after, to):
    """After the last there is none, and after one that is not declared neither."""
    assert following(("a", "b", "c"), after) == to
    assert following((), after) is None


def test_what_no_event_announced_is_found(chain):
    """In each of the three places where an image can wait."""
    chain.offer(3)
    chain.vend(2)
    chain.deploy(1)
    chain.pieces.attach(chain.curated(1), DEV, PROVENANCE, chain._provenance(1, {}))
    chain.judge(1, Boundary.CURATION)
    chain.pieces.attach(chain.curated(1), CURATION, SIGNATURE, {})
    chain.vended.append(1)
    chain.soak(1)

    assert [(s.image, s.to, s.after) for s in chain.missed()] == [
        (chain.dev(3), "curation", None),
        (chain.curated(2), "staging", None),
        (chain.curated(1), "production", "staging"),
    ]


def test_what_is_done_refused_or_old_is_not_found(chain):
    """Nothing old comes back, and nothing is asked twice."""
    chain.offer(1)
    chain.offer(2)
    chain.judge(2, Boundary.TO_CURATION, "x.y")
    chain.vend(1)
    chain.vend(2)
    chain.deploy(2)

    assert chain.missed() == ()


@pytest.mark.parametrize("bad", [{}, {"runDetails": {"metadata": {"finishedOn": "2999-01-01T00:00:00Z"}}}])
def test_what_one_application_signed_keeps_no_other(chain, bad):
    """Whoever signs for development could otherwise hold everybody's promotions; what it is, is told."""
    chain.offer(3)
    chain.vend(2)
    chain.others = ("curated/aaa", "dev/aaa")
    for name in chain.others:
        chain.pieces.attach(ImageRef(repository=name, digest=digest(1)), DEV, PROVENANCE, bad)
        chain.pieces.attach(ImageRef(repository=name, digest=digest(1)), CURATION, SIGNATURE, {})
        said = summary(ImageRef(repository=name, digest=digest(1)), Boundary.CURATION, POLICY, reasons=(), notes=(),
                       inputs=(), now=chain.make.noon)  # fmt: skip
        chain.pieces.attach(ImageRef(repository=name, digest=digest(1)), CURATION, SUMMARY, said.predicate())

    found = chain.missed()

    assert [(str(s.image), s.to) for s in found if not s.unreadable] == [
        (str(chain.dev(3)), "curation"), (str(chain.curated(2)), "staging")
    ]  # fmt: skip
    assert all(s.why and not s.to for s in found if s.unreadable) and any(s.unreadable for s in found)


def test_a_chain_without_anything_misses_nothing(chain):
    """Nor does one whose images nobody vends."""
    chain.vended.append(1)

    assert chain.missed() == ()


@pytest.mark.parametrize(("soaked", "to"), [(None, ""), (59, ""), (60, "production")])
def test_an_image_that_declares_less_goes_nowhere_without_the_soak_that_is_asked_for(chain, soaked, to):
    """The gate would refuse it; nobody starts that, and the move says why."""
    chain.after = "staging"
    chain.vend(1, environments=["production"])
    if soaked:
        chain.soak(1, seconds=soaked)

    move = chain.onward(1)

    assert move.to == to
    assert move.why == ("" if to else "production takes only what soaked in staging, and it did not")


def test_an_environment_after_one_without_a_soak_takes_nothing(chain):
    """What is wrong with its document is the reason."""
    chain.after, chain.asked = "staging", None
    chain.vend(1, environments=["production"])

    assert chain.onward(1).why.startswith("production takes only what soaked in staging, which says no `soak`")


def test_records_of_deployments_are_read_by_environment(chain):
    """One in production is none in staging."""
    chain.vend(1)
    chain.deploy(1, "production")

    assert chain.onward(1).to == "staging"
