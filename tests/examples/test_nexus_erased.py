# SPDX-License-Identifier: Apache-2.0
"""Who asked to be erased, and whom an operator shredded, is nobody's to see any more."""

import asyncio
import hashlib
import io
import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from typer.testing import CliRunner

from lacre.cli.program import app
from tests.examples.conftest import EXAMPLES, PASSWORD, Nexus, create_app, make_cpf, program
from tests.fastapi.serving import asking


def shred(nexus: Nexus, person: str) -> dict[str, Any]:
    """Run the command of the README; return the certificate."""
    done = CliRunner().invoke(
        app,
        [
            "shred", person, "--models", "nexus.models:User",
            "--database", nexus.database.text_url(), "--reason", "asked for it", "--yes", "--json",
            "--config", str(nexus.home / "lacre.toml"),
        ],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    return told[0] if isinstance(told, list) else told


async def started_anew(
    nexus: Nexus, requests: list[tuple[str, str, str, Any]]
) -> list[httpx.Response]:
    """Ask a process that has no key in its cache, with tokens that are still good."""
    served = create_app(nexus.settings)
    answers = []
    async with served.router.lifespan_context(served), asking(served) as client:
        for method, path, who, body in requests:
            headers = {"X-Purpose": "administration"}
            if who:
                headers["Authorization"] = f"Bearer {nexus.token(who)}"
            answers.append(await client.request(method, path, headers=headers, json=body))
    return answers


def test_who_was_shredded_is_gone(nexus: Nexus) -> None:
    """The record is 410 for the person and for staff, nothing finds it, and its CPF is free again."""
    email, cpf = "to.be.erased@example.org", make_cpf()
    person = nexus.sign_up(email, cpf=cpf, name="Ermelinda Vasconcelos")
    stays = nexus.sign_up("stays@example.org", name="Ermelinda Queiroga")
    nexus.token(email)
    nexus.token("admin")
    assert nexus.ask("DELETE", "/me", email).status_code == 202

    certificate = shred(nexus, str(person))
    own, report, record, by_cpf, by_name, page, login, again = asyncio.run(
        started_anew(
            nexus,
            [
                ("GET", "/me", email, None),
                ("GET", "/me/report", email, None),
                ("GET", f"/users/{person}", "admin", None),
                ("POST", "/users/search", "admin", {"cpf": cpf}),
                ("POST", "/users/search", "admin", {"name": "ermelinda"}),
                ("GET", "/users?limit=100", "admin", None),
                ("POST", "/tokens", "", {"email": email, "password": PASSWORD}),
                ("POST", "/users", "", {"email": email, "password": PASSWORD, "name": "A", "cpf": cpf}),
            ],
        )
    )  # fmt: skip

    assert certificate["verification"]["opened"] == 0
    assert [answer.status_code for answer in (own, report, record)] == [410, 410, 410]
    assert own.json()["code"] == "key-destroyed"
    assert by_cpf.json()["users"] == []
    assert [one["id"] for one in by_name.json()["users"]] == [str(stays)]
    assert page.status_code == 200
    assert str(person) not in page.text
    assert login.status_code == 401
    assert again.status_code == 201
    for answer in (own, report, record, page):
        assert "Vasconcelos" not in answer.text
        assert cpf not in answer.text


def operator(
    nexus: Nexus, monkeypatch: pytest.MonkeyPatch, *arguments: object
) -> tuple[int | str | None, str]:
    """Run `python -m nexus` with *arguments*; return how it ended and what it said."""
    for name, value in nexus.settings.to_environ().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["nexus", *map(str, arguments)])
    with redirect_stdout(io.StringIO()) as said:
        try:
            program.main()
        except SystemExit as end:
            return end.code, said.getvalue()
    return 0, said.getvalue()


def test_a_certificate_closes_the_request(
    nexus: Nexus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signed by an operator, of an erasure, used once, and of somebody whose data opens no more."""
    erased, asking = "erased@example.org", "asking@example.org"
    first, second = (nexus.sign_up(email, name="Iracema") for email in (erased, asking))
    for email in (erased, asking):
        assert nexus.ask("DELETE", "/me", email).status_code == 202
    before = operator(nexus, monkeypatch, "erasures")[1].splitlines()
    certificate = Path(shred(nexus, str(first))["file"])
    forged = tmp_path / "forged.json"
    forged.write_bytes(certificate.read_bytes().replace(b"asked for it", b"asked for me"))
    of_others = operator(nexus, monkeypatch, "erased", second, certificate)
    of_nobody = operator(nexus, monkeypatch, "erased", uuid4(), certificate)
    unsigned = operator(nexus, monkeypatch, "erased", first, forged)
    absent = operator(nexus, monkeypatch, "erased", first, tmp_path / "none")
    closed = operator(nexus, monkeypatch, "erased", first, certificate)
    again = operator(nexus, monkeypatch, "erased", first, certificate)
    twice = operator(nexus, monkeypatch, "erased", second, certificate)
    after = operator(nexus, monkeypatch, "erasures")[1].splitlines()

    assert {str(first), str(second)} <= {line.split()[0] for line in before}
    assert [line for line in before if not line.startswith(str(first))] == after
    digest = hashlib.sha256(certificate.read_bytes()).hexdigest()
    assert closed == (0, f"closed by certificate {digest}\n")
    for wrong, why in (
        (of_others, "their data still opens"),
        (of_nobody, "nobody asked"),
        (unsigned, "signed by no operator"),
        (absent, "No such file"),
        (again, f"it is closed, by certificate {digest}"),
        (twice, "closed another request"),
    ):
        assert str(wrong[0]).startswith("not closed: ")
        assert why in str(wrong[0])
        assert "Iracema" not in str(wrong)


@pytest.mark.parametrize(
    "command",
    [
        "lacre shred USER_ID --models nexus.models:User --database",
        "python -m nexus erasures",
        "python -m nexus erased USER_ID CERTIFICATE",
    ],
)
def test_the_readme_names_the_commands_that_were_run(command: str) -> None:
    """What the tests above run is what the page shows."""
    assert command in Path(EXAMPLES / "nexus" / "README.md").read_text("utf-8")
