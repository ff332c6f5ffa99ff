"""
A process that changes keys when it is told to.

Reads commands on stdin, answers each with a line. ``rotate KIND``, ``create TENANT``,
``upgrade URL SCHEMA``, ``forever KIND``, ``upgrades URL SCHEMA``: as many as there is time for.
"""

import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path

from lacre import Lacre, acting_as
from lacre.errors import LacreError
from lacre.keys.hierarchy import KeyKind
from lacre.stores.sql import SQLKeyStore


def upgrade(url: str, schema: str) -> None:
    store = SQLKeyStore(url, schema=schema)
    store.upgrade()
    print(store.keystore_id, flush=True)
    store.close()


def main(home: Path) -> None:
    with (
        Lacre.load(home / "lacre.toml", environ={}, identity="lacre/identities/operator.key") as lacre,
        acting_as("operator", roles={"operator"}, purpose="test"),
    ):  # fmt: skip

        def rotate(kind: str) -> None:
            row = lacre.provisioner.rotate(lacre.scope("default", "pii", KeyKind(kind)))
            print(f"version {row.version}", flush=True)

        def create(tenant: str) -> None:
            print(f"made {len(lacre.create_keys(tenant, 'pii'))}", flush=True)

        def forever(kind: str) -> None:
            while True:
                rotate(kind)

        def upgrades(url: str, schema: str) -> None:
            for number in count():
                upgrade(url.replace("NUMBER", str(number)), f"{schema}_{number}")

        commands: dict[str, Callable[..., None]] = {
            "rotate": rotate,
            "create": create,
            "upgrade": upgrade,
            "forever": forever,
            "upgrades": upgrades,
        }
        print("ready", flush=True)
        for line in sys.stdin:
            name, *arguments = line.split()
            try:
                commands[name](*arguments)
            except LacreError as error:
                print(f"{type(error).__name__}: {error}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
