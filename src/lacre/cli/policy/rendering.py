# SPDX-License-Identifier: Apache-2.0
"""`lacre policy render`: what `lacre.toml` means for a key service and for infrastructure. Asks none and changes nothing."""

import os
from enum import StrEnum
from pathlib import Path

import typer

from lacre.cli.operator import Config
from lacre.cli.terminal import data, out, say
from lacre.errors import ConfigurationError
from lacre.policy.decisions import Policy
from lacre.policy.loading import load_pins, load_policy
from lacre.policy.rendering import (
    AwsRendering,
    render_aws,
    render_cloudformation,
    render_openbao,
    render_terraform,
)

__all__ = ["render"]


class Target(StrEnum):
    """What is rendered for."""

    AWS = "aws"
    CLOUDFORMATION = "cloudformation"
    OPENBAO = "openbao"
    TERRAFORM = "terraform"


def render(
    target: Target = typer.Option(
        help="aws, terraform, cloudformation, or openbao, which stands for Vault too"
    ),
    tenant: str | None = typer.Option(None, help="pin the policies to this tenant"),
    directory: Path | None = typer.Option(None, "--out", help="write the files there"),
    config: Path = Config,
    as_json: bool = typer.Option(False, "--json", help="for a program to read"),
) -> None:
    """Print or write what the policy file means for TARGET, to be reviewed and applied."""
    file, pins = load_policy(config, os.environ), load_pins(config)
    if target is Target.OPENBAO:
        rendering = render_openbao(Policy(file, pins=pins), tenant=tenant)
        if as_json:
            data(rendering.to_json())
            return
        what = f"{len(rendering.keys)} KMS keys, {len(rendering.policies)} policies"
        _hand_over({"openbao.sh": rendering.script()}, directory)
        say(f"for {target}: {what}; review it, then run it with sh")
        return
    aws = render_aws(file, pins=pins, tenant=tenant)
    files = _files(target, aws)
    if as_json:
        data(aws.to_json() if target is Target.AWS else {"target": str(target), "files": files})
        return
    _hand_over(files, directory)
    say(f"for {target}: {len(aws.keys)} KMS keys, {len(files)} files; review them")
    if target is Target.AWS and aws.unpinned:
        say(
            f"no identity policy names {', '.join(aws.unpinned)} yet: `lacre keys pin` once the keys are there, and render again"
        )


def _files(target: Target, aws: AwsRendering) -> dict[str, str]:
    if target is Target.TERRAFORM:
        return render_terraform(aws)
    return render_cloudformation(aws) if target is Target.CLOUDFORMATION else aws.files()


def _hand_over(files: dict[str, str], directory: Path | None) -> None:
    if directory is None:
        for name, text in files.items():
            if len(files) > 1:
                out.file.write(f"== {name}\n")
            out.file.write(text)
        return
    for name, text in files.items():
        path = directory / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
        except OSError as error:
            raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from None
