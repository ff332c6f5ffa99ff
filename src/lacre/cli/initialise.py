# SPDX-License-Identifier: Apache-2.0
"""
What `lacre init` makes: a policy, a local keystore, three identities, a key store, an evidence log, first keys.

Non-interactive and complete: what it leaves behind runs. Never overwrites anything, and does
not print (`lacre.cli.main` does).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lacre.application import Lacre
from lacre.context import acting_as
from lacre.errors import ConfigurationError
from lacre.keys.hierarchy import KeyKind, KeyState
from lacre.kms.local import Identity, KeystoreAdministration
from lacre.policy.loading import parse_policy
from lacre.stores.log.opening import open_log
from lacre.stores.opening import open_key_store

__all__ = ["CLASSES", "Initialised", "initialise"]

# Class, mask, and whether it may be searched. Who reads what is for the team to decide: the
# role `app` may do everything here, `support` sees masks.
CLASSES = (
    ("pii", "hidden", True),
    ("banking", "last4", True),
    ("payment", "card", True),
    ("credentials", "hidden", False),
)

_KEY_STORE = "sqlite:///lacre/keys.db"
_LOG = "sqlite:///lacre/audit.db"


@dataclass(frozen=True, slots=True, kw_only=True)
class Initialised:
    """What was made, by path."""

    config: Path
    files: Sequence[Path]


def initialise(
    directory: Path, *, app: str = "app", env: str = "dev", passphrase: str | None = None
) -> Initialised:
    """
    Make a working lacre in *directory*: `lacre.toml` and a folder `lacre/` beside it.

    Args:
        passphrase: protects the operator's identity; None leaves it readable to this user.

    Raises:
        ConfigurationError: something of it is there already. Nothing was changed.
    """
    config, home = directory / "lacre.toml", directory / "lacre"
    for path in (config, home):
        if path.exists():
            raise ConfigurationError(
                f"{path} is there already; nothing was changed",
                hint="use it, or run `lacre init` in another directory",
            )
    operator, service = Identity.create("operator"), Identity.create("svc:app")
    audit = Identity.create("svc:audit")  # signs the evidence log, and receives no key
    policy = _policy(
        app, env, operator.public.to_text(), service.public.to_text(), audit.public.to_text()
    )
    parse_policy(policy, {})  # a name it does not take is said before anything is made
    home.mkdir(mode=0o700, parents=True)
    identities = home / "identities"
    identities.mkdir(mode=0o700)
    operator.save(identities / "operator.key", passphrase)
    service.save(identities / "svc-app.key")
    audit.save(identities / "svc-audit.key")

    store = open_key_store(_KEY_STORE, directory)
    store.upgrade()
    keystore = KeystoreAdministration(
        home / "keystore", keystore_id=store.keystore_id, signer=operator, memory=store
    )
    for name, _, searchable in CLASSES:
        for use in ("fields", "index") if searchable else ("fields",):
            keystore.create_key(f"{name}-{use}", [operator.public, service.public])
    log = open_log(parse_policy(policy, {}), directory)
    log.upgrade()
    log.close()
    config.write_text(policy, encoding="utf-8")

    with (
        Lacre.load(
            config, environ={}, identity="lacre/identities/operator.key", passphrase=passphrase
        ) as lacre,
        acting_as("operator", roles={"operator"}, purpose="provisioning"),
    ):
        for name, _, searchable in CLASSES:
            for kind in (KeyKind.BRANCH, KeyKind.INDEX) if searchable else (KeyKind.BRANCH,):
                kms = lacre.scope("default", name, kind)
                lacre.provisioner.record_kms(kms, version=1, state=KeyState.ACTIVE)
            lacre.create_keys("default", name)
    made = [
        config,
        identities / "operator.key",
        identities / "svc-app.key",
        identities / "svc-audit.key",
        home / "keys.db",
        home / "audit.db",
        *sorted((home / "keystore").glob("*.json")),
    ]
    return Initialised(config=config, files=made)


def _policy(app: str, env: str, signer: str, service: str, audit: str) -> str:
    head = f'''\
# What this application protects, under which keys, and who may do what with it.
# Every setting: docs/reference/lacre-toml.md

app = "{app}"
env = "{env}"
service = "{app}"
default_tenant = "default"

# The KMS keys of every class, one for its fields and one for its index. Another line moves them to
# another key service: docs/how-to/move-to-a-key-service.md
kms_keys = "local://{{class}}-{{use}}"

[key_store]                 # wrapped keys; back it up, apart from the data
url = "{_KEY_STORE}"

[local]                     # the local keystore: for development and single-node use
directory = "lacre/keystore"
identity = "lacre/identities/svc-app.key"
operator = "lacre/identities/operator.key"
signers = ["{signer}"]
recipients = [
    "{signer}",
    "{service}",
]

# [openbao]                 # where kms_keys = "openbao://transit/{{class}}-{{use}}"
# address = "https://openbao.example.org:8200"
# role_id = "..."
# secret_id_file = "lacre/openbao-secret-id"

# [aws]                     # where kms_keys = "aws-kms://eu-central-1/alias/{{class}}-{{use}}"
# regions = ["eu-central-1"]

# Who did what with which value. In the log, which `svc-audit.key` signs and `lacre audit verify`
# checks; and the same entries as lines, to ship: docs/how-to/evidence.md
[audit]
url = "{_LOG}"
path = "lacre/audit.jsonl"
identity = "lacre/identities/svc-audit.key"
signers = ["{audit}"]

[stores.main]
'''
    classes = []
    for name, mask, searchable in CLASSES:
        rights = '["encrypt", "decrypt", "search"]' if searchable else '["encrypt", "decrypt"]'
        index = "" if searchable else "\nindex = false               # never searchable"
        classes.append(
            f'''
[classes.{name}]
mask = "{mask}"{index}
rights.app = {rights}
rights.operator = {rights}
rights.support = ["mask"]
'''
        )
    return head + "".join(classes)
