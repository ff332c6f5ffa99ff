"""Whatever people do and whatever rows a database gives back, a grant is in effect only as its signatures say."""

from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from lacre.errors import AccessDenied, MisuseError
from lacre.policy.grants import steps
from lacre.policy.grants.judging import Standing, judge
from lacre.policy.grants.request import Act, GrantAct, GrantRecord
from tests.policy.grants.parts import NOW, asked, person, rules

MAY = {"ana": "person:ana", "rui": "person:rui", "zoe": "person:zoe"}
EVERYBODY = [*MAY, "kyc", "bia", "operator", "devops", "stranger"]
EFFECT = 4 * 3600.0


class Grants(RuleBasedStateMachine):
    """Two approved the grant, it was executed, nobody revoked it: a model of sets beside the real thing."""

    grants = Bundle("grants")

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.records: dict[str, GrantRecord] = {}
        self.until: dict[str, float] = {}
        self.approved: dict[str, set[str]] = {}
        self.executed: set[str] = set()
        self.revoked: set[str] = set()
        self.asker: dict[str, str] = {}

    @rule(target=grants, by=st.sampled_from(["kyc", "ana", "operator"]))
    def ask(self, by: str) -> str:
        record = asked(by, now=self.now)
        made = record.request.id
        self.records[made], self.approved[made], self.asker[made] = record, set(), by
        self.until[made] = self.now + EFFECT
        return made

    @rule(grant=grants, by=st.sampled_from(EVERYBODY))
    def approve(self, grant: str, by: str) -> None:
        open_ = grant not in self.revoked | self.executed and self.now < self.until[grant]
        room = len(self.approved[grant]) < 2
        fits = by in MAY and by != self.asker[grant] and by not in self.approved[grant]
        if self._took(grant, steps.approve, by):
            assert open_
            assert room
            assert fits
            self.approved[grant].add(by)
        else:
            assert not (open_ and room and fits)

    @rule(grant=grants, by=st.sampled_from(EVERYBODY))
    def execute(self, grant: str, by: str) -> None:
        open_ = grant not in self.revoked | self.executed and self.now < self.until[grant]
        fits = len(self.approved[grant]) == 2 and by in {*MAY, "operator"}
        if self._took(grant, steps.execute, by):
            assert open_
            assert fits
            self.executed.add(grant)
        else:
            assert not (open_ and fits)

    @rule(grant=grants)
    def revoke(self, grant: str) -> None:
        record = self.records[grant]
        try:
            act = steps.revoke(record, rules(), by=person("kyc"), now=self.now, note="over")
        except MisuseError:
            assert grant in self.revoked or self.now >= self.until[grant]
            return
        self._add(grant, act)
        self.revoked.add(grant)

    @rule(seconds=st.sampled_from([1.0, 600.0, 3 * 3600.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(grant=grants, other=grants, number=st.integers(0, 5))
    def replay(self, grant: str, other: str, number: int) -> None:
        """An act of another grant, or of this one a second time: it gives nothing."""
        acts = [each for each in self.records[other].acts if each.act is not Act.REVOKE]
        if acts:
            self._add(grant, replace(acts[number % len(acts)], grant=grant))

    @rule(grant=grants, name=st.sampled_from(sorted(MAY.values())), act=st.sampled_from([Act.APPROVE, Act.EXECUTE]))  # fmt: skip
    def forge(self, grant: str, name: str, act: Act) -> None:
        """A row that somebody without a key writes."""
        short = name.removeprefix("person:")
        self._add(
            grant,
            GrantAct(grant=grant, number=1, act=act, name=name, at=self.records[grant].request.requested, note="", signer=person(short).fingerprint, signature=bytes(64)),
        )  # fmt: skip

    def _took(self, grant: str, step: object, by: str) -> bool:
        try:
            act = step(self.records[grant], rules(), by=person(by), now=self.now)  # type: ignore[operator]
        except AccessDenied:
            return False
        self._add(grant, act)
        return True

    def _add(self, grant: str, act: GrantAct) -> None:
        record = self.records[grant]
        self.records[grant] = replace(record, acts=(*record.acts, act))

    @invariant()
    def in_effect_as_the_model_says(self) -> None:
        for grant, record in self.records.items():
            meant = (
                grant in self.executed
                and grant not in self.revoked
                and self.now < self.until[grant]
            )
            found = judge(record, rules(), now=self.now)
            assert (found.standing is Standing.IN_EFFECT) == meant
            assert {each.removeprefix("person:") for each in found.approvers} == self.approved[grant]  # fmt: skip


TestGrants = Grants.TestCase
TestGrants.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
