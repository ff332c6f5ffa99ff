# SPDX-License-Identifier: Apache-2.0
"""
Argilla's accounts at work, in a process of their own: ``python argilla.py SOURCES STEP...``.

Its models, its CRUD, its queries and its database module run as they are in SOURCES. Its web
application, its search engines and its tokens, which need packages that are not installed and
have no part in this, are left out: `argilla_server/__init__.py` and three modules.
"""

import asyncio
import json
import sys
from types import ModuleType
from typing import Any

SOURCES, *STEPS = sys.argv[1:]
_LEFT_OUT = {
    "contexts.datasets": [],
    "security.authentication.jwt": ["JWT"],
    "security.authentication.userinfo": ["UserInfo"],
}
USER = {
    "first_name": "canary-Ana",
    "last_name": "canary-Silva",
    "username": "canary-ana",
    "password": "canary-password",
}


def argilla() -> tuple[Any, Any, Any]:
    """Import its accounts, models and database."""
    for name, path in {
        "": "",
        ".contexts": "/contexts",
        ".security": "/security",
        ".security.authentication": "/security/authentication",
    }.items():
        package = sys.modules[f"argilla_server{name}"] = ModuleType(f"argilla_server{name}")
        package.__path__ = [f"{SOURCES}/argilla_server{path}"]
        package.__file__ = f"{SOURCES}/argilla_server{path}/__init__.py"
    for name, bound in _LEFT_OUT.items():
        module = sys.modules[f"argilla_server.{name}"] = ModuleType(f"argilla_server.{name}")
        for word in bound:
            setattr(module, word, None)
        parent, _, child = f"argilla_server.{name}".rpartition(".")
        setattr(sys.modules[parent], child, module)
    from argilla_server import database, models  # type: ignore[import-not-found]
    from argilla_server.contexts import accounts  # type: ignore[import-not-found]

    return accounts, models, database


async def made(accounts: Any, models: Any, db: Any) -> dict[str, Any]:
    await accounts.create_workspace(db, {"name": "research"})
    user = await accounts.create_user(db, {**USER, "role": models.UserRole.admin}, ["research"])
    return {"id": str(user.id), "api_key": user.api_key}


async def read(accounts: Any, models: Any, db: Any) -> dict[str, Any]:
    found = await accounts.get_user_by_username(db, USER["username"])
    by_key = await accounts.get_user_by_api_key(db, found.api_key)
    listed = await accounts.list_users(db)
    signed_in = await accounts.authenticate_user(db, USER["username"], USER["password"])
    return {
        "id": str(found.id),
        "name": f"{found.first_name} {found.last_name}",
        "workspaces": [workspace.name for workspace in found.workspaces],
        "by_key": by_key.username,
        "listed": [user.username for user in listed],
        "signed_in": signed_in is found,
        "wrong_password": await accounts.authenticate_user(db, USER["username"], "x"),
        "stranger": await accounts.get_user_by_username(db, "nobody"),
    }


async def changed(accounts: Any, models: Any, db: Any) -> dict[str, Any]:
    user = await models.User.get_by_or_raise(db, username=USER["username"])
    await accounts.update_user(db, user, {"first_name": "canary-Bia", "username": "canary-bia"})
    await db.refresh(user)
    try:
        again = {**USER, "username": "canary-bia", "role": models.UserRole.annotator}
        await accounts.create_user(db, again)
        twice = ""
    except Exception as error:
        twice = type(error).__name__
    before = [user.first_name, user.username, await accounts.get_user_by_username(db, "canary-ana")]
    await accounts.delete_user(db, user)
    return {"changed": before, "twice": twice, "left": len(await accounts.list_users(db))}


async def work() -> dict[str, Any]:
    accounts, models, database = argilla()
    if "make" in STEPS:
        async with database.async_engine.begin() as connection:
            await connection.run_sync(models.User.metadata.create_all)
    steps = {"make": made, "read": read, "change": changed}
    said = {}
    try:
        for step in STEPS:
            async with database.AsyncSessionLocal() as db:
                if not hasattr(database, "lacre"):
                    said[step] = await steps[step](accounts, models, db)
                    continue
                with database.lacre.acting_as("svc:argilla", roles={"app"}, purpose="accounts"):
                    said[step] = await steps[step](accounts, models, db)
    finally:
        await database.async_engine.dispose()
    return said


if __name__ == "__main__":
    print(json.dumps(asyncio.run(work())))
