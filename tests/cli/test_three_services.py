"""The demo's database runs on each of the three key services by changing one line of lacre.toml."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

from lacre import Lacre
from lacre.cli.program import run
from lacre.errors import LacreError
from lacre.keys.hierarchy import KeyKind
from lacre.policy.loading import load_pins
from tests.cli.three_services import LOCAL, Shop, aws_line, openbao_line
from tests.components.aws import AWS
from tests.components.openbao import OpenBao


@dataclass(frozen=True, slots=True)
class Done:
    """What a command said, and its exit code."""

    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Done]


@pytest.fixture
def cli(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `lacre ARGS` beside lacre.toml, in this process: a new one for each takes a second."""
    monkeypatch.chdir(shop.directory)

    def ran(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["lacre", *arguments])
        out, err, code, mask = io.StringIO(), io.StringIO(), 0, os.umask(0o077)
        with redirect_stdout(out), redirect_stderr(err):
            try:
                run()
            except SystemExit as end:
                code = int(end.code or 0)
            finally:
                os.umask(mask)
        return Done(code, out.getvalue(), err.getvalue())

    return ran


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop.made(tmp_path / "shop")


@pytest.fixture
def aws(moto: AWS, monkeypatch: pytest.MonkeyPatch) -> AWS:
    for name, value in moto.environ().items():
        monkeypatch.setenv(name, value)
    return moto


def test_one_line_changes_the_key_service(cli: Run, shop: Shop, openbao: OpenBao, aws: AWS) -> None:
    """Local, OpenBao, AWS and back: after each leg everything opens, is searched and decrypts, and no byte of data moved."""
    data, told = shop.data(), shop.works()
    lines = [openbao_line(shop, openbao), aws_line(shop, aws), LOCAL]
    before = LOCAL
    for line in lines:
        shop.names(line)
        if line.startswith("aws-kms"):
            unpinned = cli("keys", "rewrap", "--from", before)
            pinned = cli("keys", "pin")
            assert (unpinned.returncode, pinned.returncode) == (3, 0), pinned.stderr
            assert "lacre keys pin" in unpinned.stderr
        with pytest.raises(LacreError) as refused:
            shop.works()
        planned = cli("keys", "rewrap", "--from", before, "--dry-run", "--json")
        done = cli("keys", "rewrap", "--from", before, "--json")

        assert "rewrap" in refused.value.hint
        assert done.returncode == 0, done.stderr
        assert sum(each["keys"] for each in json.loads(planned.stdout)["todo"]) == 7
        result = json.loads(done.stdout)
        assert (result["moved"], result["checked"], result["left"]) == (7, 7, [])
        assert {parent.partition("://")[0] for parent in shop.parents()} == {line.partition("://")[0]}  # fmt: skip
        assert shop.works() == told
        assert shop.data() == data
        before = line
    assert told.startswith("Ana Souza ana@example.org, 100")
    again = cli("keys", "rewrap")
    assert again.stdout.startswith("rewrapped: 0 keys moved, 0 renewed; 7 were")


def test_a_move_that_is_killed_is_gone_on_with_while_it_runs(
    cli: Run, shop: Shop, openbao: OpenBao
) -> None:
    """With [move] a process reads all the time, SIGKILL loses nothing, the next run does the rest."""
    with (
        Lacre.load(shop.config, environ={}, identity="lacre/identities/operator.key") as lacre,
        lacre.acting_as("operator", roles={"operator"}, purpose="provisioning"),
    ):
        for number in range(60):
            lacre.create_keys(f"t{number}", "credentials")
    data, told = shop.data(), shop.works()
    line = openbao_line(shop, openbao)
    shop.names(line)
    shop.adds(f'[move]\nfrom = "{LOCAL}"\nuntil = 2999-12-31\n\n[calls]\nconcurrent = 1')
    reads, wrong, over = [], [], threading.Event()

    def read() -> None:
        while not over.is_set():
            try:
                reads.append(shop.works())
            except LacreError as error:
                wrong.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    command = [sys.executable, "-m", "lacre.cli", "keys", "rewrap"]
    with subprocess.Popen(command, cwd=shop.directory, stderr=subprocess.PIPE, stdout=subprocess.PIPE) as killed:  # fmt: skip
        while killed.poll() is None and len(shop.parents()) < 8:
            time.sleep(0.005)  # until the first transaction is in the key store
        killed.send_signal(signal.SIGKILL)
    left = len(_under(shop, "local://"))
    works = shop.works()
    rest = cli("keys", "rewrap", "--json")
    over.set()
    reader.join()

    assert killed.returncode == -signal.SIGKILL
    assert 0 < left < 67
    assert works == told
    assert json.loads(rest.stdout)["moved"] == left
    assert _under(shop, "local://") == []
    assert reads
    assert set(reads) == {told}
    assert wrong == []
    assert shop.data() == data


def test_a_moved_alias_is_said_and_changes_nothing(cli: Run, shop: Shop, aws: AWS) -> None:
    """The pin holds: `status` exits 10 and says so, `pin` refuses without --yes, the data opens."""
    line = aws_line(shop, aws)
    shop.names(line)
    assert cli("keys", "pin").returncode == 0
    assert cli("keys", "rewrap", "--from", LOCAL).returncode == 0
    pins, told = load_pins(shop.config), shop.works()
    alias = line.format_map({"class": "pii", "use": "fields"})
    aws.alias(alias.partition(f"{aws.region}/")[2], aws.key())

    same = cli("keys", "status", "--class", "pii", "--json")
    refused = cli("keys", "pin")
    unchanged = load_pins(shop.config)
    changed = cli("keys", "pin", "--yes", "--json")

    assert same.returncode == 10, same.stderr
    found = {each["alias"]: each for each in json.loads(same.stdout)}[alias]
    assert found["kms_key"] == pins[alias]
    assert any("alias was moved" in each["what"] for each in found["attention"])
    assert refused.returncode == 8
    assert "MOVED" in refused.stdout
    assert unchanged == pins
    assert {each["change"] for each in json.loads(changed.stdout)} == {"as it was", "MOVED"}
    assert load_pins(shop.config)[alias] != pins[alias]
    assert told.startswith("Ana Souza")


def test_four_credentials_of_a_real_server(cli: Run, shop: Shop, openbao: OpenBao) -> None:
    """Minting, activating, moving and administering are each refused what is another's, by a real 403."""
    line = openbao_line(shop, openbao)
    mount = line.removeprefix("openbao://").partition("/")[0]
    shop.names(line)
    rights = {
        "mint": {f"{mount}/datakey/wrapped/*": "update"},
        "unwrap": {f"{mount}/decrypt/*": "update"},
        "administer": {f"{mount}/keys/*": "read", f"{mount}/keys/+/rotate": "update"},
    }
    token = shop.directory / "lacre" / "identities" / "openbao-token"

    def act_as(*which: str) -> None:
        rules = {path: what for each in which for path, what in rights[each].items()}
        hcl = "\n".join(f'path "{path}" {{ capabilities = ["{what}"] }}' for path, what in rules.items())  # fmt: skip
        read = f'path "{mount}/keys/*" {{ capabilities = ["read"] }}'
        policy = openbao.policy(None, hcl if "administer" in which else f"{hcl}\n{read}")
        token.write_text(openbao.token([policy]))

    def keys(*arguments: str) -> Done:
        return cli("keys", *arguments, "--class", "pii")

    def states() -> list[tuple[str, int, str]]:
        listed = json.loads(keys("list", "--tenant", "acme", "--json").stdout)
        return [(row["kind"], row["version"], row["state"]) for row in listed]

    act_as("unwrap")
    no_mint = keys("create", "--tenant", "acme")
    act_as("mint")
    created, again = keys("create", "--tenant", "acme"), keys("create", "--tenant", "acme")
    no_activation, waiting = keys("activate", "--tenant", "acme"), states()
    act_as("unwrap")
    activated, no_kms = keys("activate", "--tenant", "acme"), keys("rotate", "--kind", "kms")
    active = states()
    act_as("mint")
    minted = keys("rotate", "--tenant", "acme", "--kind", "branch")
    act_as("unwrap")
    completed = keys("activate", "--tenant", "acme")
    act_as("administer")
    rotated, no_moving = keys("rotate", "--kind", "kms"), keys("rewrap", "--tenant", "acme", "--anew")  # fmt: skip

    assert no_mint.returncode == 5
    assert "right to mint" in no_mint.stderr
    assert (created.returncode, again.returncode) == (0, 0), created.stderr
    assert "lacre keys activate --tenant acme --class pii" in created.stderr
    assert waiting == [("branch", 1, "pending"), ("index", 1, "pending")]
    assert no_activation.returncode == 5
    assert "right to unwrap" in no_activation.stderr
    assert activated.returncode == 0, activated.stderr
    assert active == [("branch", 1, "active"), ("data", 1, "active"), ("index", 1, "active")]
    assert no_kms.returncode == 5
    assert "right to administer" in no_kms.stderr
    assert "pending: branch" in minted.stderr
    assert "activated: branch" in completed.stderr
    assert rotated.returncode == 0, rotated.stderr
    assert rotated.stderr.count("now version 2") == 2
    assert no_moving.returncode == 5


def test_three_credentials_of_an_aws_account(
    cli: Run, shop: Shop, aws: AWS, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one action each: who mints reads nothing, who reads mints nothing, neither moves keys; AccessDenied says which right."""
    shop.names(aws_line(shop, aws))
    assert cli("keys", "pin").returncode == 0
    keys = [uri.rpartition("/")[2] for uri in load_pins(shop.config).values()]
    arns = [f"arn:aws:kms:{aws.region}:{aws.account}:key/{key}" for key in keys]
    actions = {
        "mint": ["kms:GenerateDataKeyWithoutPlaintext"],
        "unwrap": ["kms:Decrypt"],
        "move": ["kms:Encrypt", "kms:Decrypt"],
    }
    who = {name: aws.principal(aws.allowed(held, *arns)) for name, held in actions.items()}

    def act_as(name: str) -> None:
        for variable, value in aws.environ(who[name]).items():
            monkeypatch.setenv(variable, value)

    here = ("--tenant", "acme", "--class", "pii")
    act_as("mint")
    cannot_move = cli("keys", "rewrap", "--from", LOCAL)
    created, refused = cli("keys", "create", *here), cli("keys", "activate", *here)
    act_as("unwrap")
    cannot_mint = cli("keys", "create", "--tenant", "other", "--class", "pii")
    cannot_wrap = cli("keys", "rewrap", "--from", LOCAL)
    activated = cli("keys", "activate", *here)
    act_as("move")
    moved = cli("keys", "rewrap", "--from", LOCAL, "--json")
    act_as("unwrap")

    assert shop.works().startswith("Ana Souza")
    assert [cannot_move.returncode, refused.returncode, cannot_mint.returncode, cannot_wrap.returncode] == [5] * 4  # fmt: skip
    assert created.stderr.count("pending:") == 2
    assert "right to unwrap" in refused.stderr
    assert "right to mint" in cannot_mint.stderr
    assert "the credential that migrates" in cannot_move.stderr
    assert activated.stderr.count("activated:") == 3, activated.stderr
    assert json.loads(moved.stdout)["moved"] == 7


def test_a_rotated_kms_key_of_openbao_renews_its_keys(
    cli: Run, shop: Shop, openbao: OpenBao
) -> None:
    """`rotate --kind kms` and `rewrap`: exactly the keys of that class, inside the server."""
    shop.names(openbao_line(shop, openbao))
    moved = cli("keys", "rewrap", "--from", LOCAL)
    rotated = cli("keys", "rotate", "--class", "pii", "--kind", "kms")
    renewed = cli("keys", "rewrap", "--json")
    status = cli("keys", "status", "--json")

    assert (moved.returncode, rotated.returncode, renewed.returncode) == (0, 0, 0)
    result = json.loads(renewed.stdout)
    assert (result["moved"], result["renewed"], result["current"]) == (0, 2, 5)
    versions = {each["kms_key"].rpartition("/")[2]: each["version"] for each in json.loads(status.stdout)}  # fmt: skip
    assert versions["pii-fields"] == 2
    assert versions["payment-fields"] == 1
    assert shop.works().startswith("Ana Souza")


def _under(shop: Shop, prefix: str) -> list[str]:
    with Lacre.load(shop.config, environ={}, identity="lacre/identities/operator.key") as lacre:
        rows = [
            row for name in lacre.policy.file.classes
            for tenant in ("default", *(f"t{number}" for number in range(60)))
            for kind in (KeyKind.BRANCH, KeyKind.INDEX)
            for row in lacre.store.versions(lacre.scope(tenant, name, kind))
        ]  # fmt: skip
    return [row.parent for row in rows if row.parent.startswith(prefix)]
