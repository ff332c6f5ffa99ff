# SPDX-License-Identifier: Apache-2.0
"""`lacre policy render`: what `lacre.toml` means for a key service. Asks none and changes nothing."""

import os
from enum import StrEnum
from pathlib import Path

import typer

from lacre.cli.operator import Config
from lacre.cli.terminal import data, out, say
from lacre.policy.decisions import Policy
from lacre.policy.loading import load_pins, load_policy
from lacre.policy.rendering import render_openbao

__all__ = ["render"]


class Target(StrEnum):
    """What is rendered for."""

    OPENBAO = "openbao"


def render(
    target: Target = typer.Option(help="the key service: openbao, which stands for Vault too"),
    tenant: str | None = typer.Option(None, help="pin the policies to this tenant"),
    config: Path = Config,
    as_json: bool = typer.Option(False, "--json", help="for a program to read"),
) -> None:
    """Print the script that makes the KMS keys and their policies, to be reviewed and run."""
    policy = Policy(load_policy(config, os.environ), pins=load_pins(config))
    rendering = render_openbao(policy, tenant=tenant)
    if as_json:
        data(rendering.to_json())
        return
    out.file.write(rendering.script())
    say(
        f"for {target}: {len(rendering.keys)} KMS keys, {len(rendering.policies)} policies; review it, then run it with sh"
    )
