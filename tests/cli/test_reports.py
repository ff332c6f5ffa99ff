"""`lacre audit snapshot`, `report` and `control`, as a user runs them on a log."""

import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_a_report_can_be_made_again_from_its_snapshot(cli: Run, home: Path) -> None:
    """The same bytes of JSON, from the file alone; a changed file is refused; what was done by hand is in it."""
    proof = home / "pentest.pdf"
    proof.write_bytes(b"what was found")
    done = cli("audit", "control", "done", "penetration-test", "--proof", str(proof))
    listed = json.loads(cli("audit", "control", "list", "--json").stdout)
    first = cli("audit", "report", "--format", "json")
    (kept,) = (home / "lacre/snapshots").glob("*.snapshot")
    again = cli("audit", "report", "--snapshot", str(kept), "--format", "json")
    public = next(line for line in (home / "lacre.toml").read_text().split('"') if line.startswith("lacre-public-1 operator"))  # fmt: skip
    elsewhere = cli("audit", "report", "--snapshot", str(kept), "--signer", public, "--format", "json", "-c", "none.toml")  # fmt: skip
    kept.chmod(0o600)
    kept.write_bytes(kept.read_bytes().replace(b'"rotated":0', b'"rotated":9'))
    forged = cli("audit", "report", "--snapshot", str(kept))
    report = json.loads(first.stdout)

    assert (done.returncode, first.returncode, again.returncode) == (0, 0, 0)
    assert first.stdout == again.stdout == elsewhere.stdout
    assert forged.returncode == 6
    assert hashlib.sha256(b"what was found").hexdigest() in done.stdout
    assert [each["name"] for each in listed if not each["overdue"]] == ["penetration-test"]
    manual = {each["name"]: each for each in report["evidence"]["manual"]}
    assert not manual["penetration-test"]["overdue"]
    assert report["evidence"]["log"]["verification"]["sound"]
    assert cli("audit", "control", "done", "nothing-known").returncode == 3
