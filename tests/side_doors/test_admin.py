# SPDX-License-Identifier: Apache-2.0
"""An admin panel, sqladmin: what its pages show of encrypted columns, and what its forms write."""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqladmin import Admin, ModelView
from sqlalchemy import select
from starlette.applications import Starlette
from wtforms import StringField

from lacre import Lacre
from tests.side_doors.conftest import ACCOUNT, CPF, EMAIL, Shop, clean
from tests.sqlalchemy.models import Customer

Ask = Callable[..., httpx.Response]
HINTS = ("c101", "\\xc1", "b&#39;", "sealed", "Sealed", "EncryptedType")


@pytest.fixture
def home(home: Path) -> Path:
    """`home`, with a role that is shown masks and may write."""
    config = home / "lacre.toml"
    text = config.read_text(encoding="utf-8")
    rights = '[classes.pii]\nrights.maskwriter = ["encrypt", "mask"]\n'
    config.write_text(text.replace("[classes.pii]\n", rights), encoding="utf-8")
    return home


class CustomerAdmin(ModelView, model=Customer):
    column_list = [Customer.email, Customer.cpf, Customer.city]  # noqa: RUF012
    column_details_list = [Customer.email, Customer.account, Customer.city]  # noqa: RUF012
    column_searchable_list = [Customer.city]  # noqa: RUF012
    column_sortable_list = [Customer.email, Customer.city]  # noqa: RUF012
    form_columns = [Customer.city, Customer.email]  # noqa: RUF012
    form_overrides = {"email": StringField}  # noqa: RUF012 - the column's type is binary


@pytest.fixture
def ask(shop: Shop, lacre: Lacre) -> Ask:
    """Ask the panel for a page, acting in a role; as nobody without one."""
    panel = Starlette()
    Admin(panel, session_maker=shop.sessions).add_view(CustomerAdmin)

    async def application(scope: Any, receive: Any, send: Any) -> None:
        role = dict(scope.get("headers", ())).get(b"x-role", b"").decode()
        if not role:
            await panel(scope, receive, send)
            return
        with lacre.acting_as(f"user:{role}", roles={role}, purpose="administration"):
            await panel(scope, receive, send)

    def ask(path: str, role: str = "", **form: str) -> httpx.Response:
        async def asked() -> httpx.Response:
            transport = httpx.ASGITransport(application, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://panel") as client:
                headers = {"x-role": role} if role else {}
                where = f"/admin/customer/{path}"
                if form:
                    return await client.post(where, headers=headers, data=form)
                return await client.get(where, headers=headers)

        return asyncio.run(asked())

    return ask


def pages(shop: Shop) -> list[str]:
    return ["list", "list?search=Faro", f"details/{shop.row}", f"edit/{shop.row}", "export/csv"]


def test_who_may_decrypt_sees_values(ask: Ask, shop: Shop) -> None:
    """Lists, searches, details, forms and exports show the plaintext to who may have it."""
    for path in pages(shop):
        page = ask(path, "app")
        assert page.status_code == 200
        assert EMAIL in page.text
        assert not any(hint in page.text for hint in HINTS)

    assert CPF in ask("list", "app").text
    assert ACCOUNT in ask(f"details/{shop.row}", "app").text


def test_who_may_not_sees_masks(ask: Ask, shop: Shop) -> None:
    """The same pages show masks to who has no more: neither values nor ciphertext."""
    for path in pages(shop):
        page = ask(path, "support")
        assert page.status_code == 200
        assert clean(page.text)
        assert "***" in page.text
        assert not any(hint in page.text for hint in HINTS)


@pytest.mark.parametrize("role", ["", "stranger"])
def test_nobody_sees_anything(ask: Ask, shop: Shop, role: str) -> None:
    """Without acting, and in a role without rights, a page with an encrypted column is an error."""
    for path in pages(shop):
        page = ask(path, role)
        assert page.status_code == 500 or path == "export/csv"  # whose headers are sent by then
        assert clean(page.text)
        assert "***" not in page.text
        assert not any(hint in page.text for hint in HINTS)


def test_sorting_is_refused(ask: Ask) -> None:
    """The panel cannot sort by ciphertext: the query is refused, not answered in some order."""
    page = ask("list?sortBy=email", "app")

    assert page.status_code == 500
    assert clean(page.text)


def test_a_form_writes_ciphertext(ask: Ask, shop: Shop) -> None:
    """What a form creates and changes is encrypted, and found by its blind index."""
    assert ask("create", "app", city="Lisboa", email="new@example.org").status_code == 302
    assert (
        ask(f"edit/{shop.row}", "app", city="Porto", email="moved@example.org").status_code == 302
    )
    with shop.act(), shop.sessions() as session:
        moved = session.scalars(select(Customer).where(Customer.email == "moved@example.org")).one()
        new = session.scalars(select(Customer).where(Customer.email == "new@example.org")).one()

        assert (moved.id, moved.city, new.city) == (shop.row, "Porto", "Lisboa")


@pytest.mark.parametrize("role", ["support", "maskwriter"])
def test_a_form_that_sends_the_mask_back_writes_nothing(ask: Ask, shop: Shop, role: str) -> None:
    """A form filled with a mask is refused, also for who may write: the value stays what it was."""
    filled = re.findall(r'name="email"[^>]*value="([^"]*)"', ask(f"edit/{shop.row}", role).text)
    assert filled == ["***"]
    page = ask(f"edit/{shop.row}", role, city="Porto", email=filled[0])

    assert page.status_code == 400
    with shop.act(), shop.sessions() as session:
        found = session.scalars(select(Customer)).one()
        assert (found.email, found.city) == (EMAIL, "Faro")
