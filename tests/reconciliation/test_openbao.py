"""A real OpenBao's audit log: an honest application, and somebody else with its credential."""

import json
from base64 import b64encode
from datetime import timedelta
from pathlib import Path

from lacre import Lacre
from lacre.audit.detection.finding import Severity
from lacre.cli.initialise import initialise
from lacre.keys.hierarchy import KeyKind
from lacre.keys.transit_context import transit_context
from lacre.reconciliation.reconciling import Reconciled, Sources, reconcile
from tests.components.openbao import OpenBao

_TABLE = '[openbao]\naddress = "{address}"\nca_file = "{ca_file}"\nauth = "token"\nnamespace = "{namespace}"\n'


def _home(server: OpenBao, directory: Path, mount: str, namespace: str) -> Path:
    made = initialise(directory, env="test").config
    text = made.read_text().replace("local://", f"openbao://{mount}/").replace("[audit]\nurl", "[audit]\n# url")  # fmt: skip
    table = _TABLE.format(address=server.address, ca_file=server.ca_file, namespace=namespace)
    made.write_text(text.replace("[audit]", table + "\n[audit]", 1))
    return made


def _reconciled(config: Path, log: Path) -> Reconciled:
    with Lacre.load(config, environ={"BAO_TOKEN": "s.unused"}) as lacre:
        return reconcile(lacre.policy, lacre.base, Sources(openbao=(str(log),)), delay=timedelta(0))


def test_bypass(openbao: OpenBao, tmp_path: Path) -> None:
    """What lacre unwrapped is matched by its ids; what was decrypted beside it, with the same token, is found."""
    namespace = openbao.namespace()
    mount = openbao.transit(namespace=namespace)
    for name in ("pii-fields", "pii-index"):
        openbao.key(mount, name, namespace=namespace)
    config = _home(openbao, tmp_path / "home", mount, namespace)
    rule = 'capabilities = ["create", "update", "read"]'
    token = openbao.token(
        [openbao.policy(None, f'path "{mount}/*" {{ {rule} }}', namespace=namespace)],
        namespace=namespace,
    )
    since = openbao.mark()
    environ = {"BAO_TOKEN": token}
    with Lacre.load(config, environ=environ) as lacre:
        with lacre.acting_as("operator", roles={"operator"}, purpose="keys", tenant="acme"):
            lacre.create_keys("acme", "pii")
        box = lacre.field("pii", table="t", column="c")
        with lacre.acting_as("svc:kyc", roles={"app"}, purpose="kyc", tenant="acme"):
            sealed = box.encrypt("ana@example.org", row="1")
        lacre.resolver.forget()
        with lacre.acting_as("svc:kyc", roles={"app"}, purpose="kyc", tenant="acme"):
            box.decrypt(sealed, row="1")
        (row,) = lacre.store.versions(lacre.scope("acme", "pii", KeyKind.BRANCH))
    log = tmp_path / "audit.json"

    def copy() -> None:
        log.write_bytes(openbao.audit_log.read_bytes()[since:])

    copy()
    honest = _reconciled(config, log)

    assert honest.clean
    assert honest.matched.by_id == honest.matched.calls == honest.matched.recorded > 1
    assert honest.matched.by_time == 0

    assert row.wrapped is not None
    thief = openbao.client(token, namespace=namespace)
    asked = {"ciphertext": row.wrapped.decode(), "context": transit_context(row.wrap_context())}
    thief.adapter.post(f"/v1/{mount}/decrypt/pii-fields", json=asked)
    thief.adapter.post(f"/v1/{mount}/decrypt/pii-fields", json={"batch_input": [asked]})
    thief.adapter.post(
        f"/v1/{mount}/datakey/plaintext/pii-fields",
        json={"context": b64encode(bytes(33)).decode()},
    )
    copy()
    found = _reconciled(config, log)
    facts = {str(each.facts["operation"]): each for each in found.findings}

    assert {name: each.facts["found"] for name, each in facts.items()} == {"decrypt": 2, "datakey/plaintext": 1}  # fmt: skip
    assert {each.severity for each in facts.values()} == {Severity.CRITICAL}
    assert facts["decrypt"].facts["kms_key"] == f"openbao://{namespace}/{mount}/pii-fields"

    lines = (config.parent / "lacre/audit.jsonl").read_bytes().splitlines()
    shown = [json.loads(line) for line in lines if b'"action":"unwrap"' in line]
    assert {each["principal"] for each in shown} >= {"svc:kyc"}
    kept = [line for line in log.read_text().splitlines() if shown[-1]["requests"][0] not in line]
    log.write_text("\n".join(kept) + "\n")
    unseen = [each for each in _reconciled(config, log).findings if each.rule == "unseen-unwrap"]
    assert [each.facts["requests"] for each in unseen] == [shown[-1]["requests"]]
