# SPDX-License-Identifier: Apache-2.0
"""Who asked to be erased, and whom an operator shredded, is nobody's to see any more."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx

from tests.examples.conftest import EXAMPLES, PASSWORD, Nexus, create_app, make_cpf
from tests.fastapi.serving import asking


def shred(nexus: Nexus, person: str) -> dict[str, Any]:
    """Run the command of the README; return the certificate."""
    done = subprocess.run(
        [
            sys.executable, "-c", "from lacre.cli import main; main()", "shred", person,
            "--models", "nexus.models:User", "--database", nexus.database.text_url(),
            "--reason", "asked for it", "--yes", "--json", "--config", nexus.home / "lacre.toml",
        ],
        cwd=EXAMPLES, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    return told[0] if isinstance(told, list) else told


async def started_anew(
    nexus: Nexus, requests: list[tuple[str, str, str, Any]]
) -> list[httpx.Response]:
    """Ask a process that has no key in its cache, with tokens that are still good."""
    app = create_app(nexus.settings)
    answers = []
    async with app.router.lifespan_context(app), asking(app) as client:
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


def test_the_readme_names_the_command_that_was_run() -> None:
    """What the test above runs is what the page shows."""
    page = Path(EXAMPLES / "nexus" / "README.md").read_text("utf-8")

    assert "lacre shred USER_ID --models nexus.models:User --database" in page
