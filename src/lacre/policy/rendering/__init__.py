# SPDX-License-Identifier: Apache-2.0
"""
What `lacre.toml` means for a key service and for infrastructure code, one module for each.

From the policy file alone, the same bytes every time: nothing here asks a server, a clock or the
environment, and nothing is applied.
"""

from lacre.policy.rendering.aws import AwsKey, AwsRendering, render_aws
from lacre.policy.rendering.cloudformation import render_cloudformation
from lacre.policy.rendering.openbao import (
    Credential,
    OpenBaoRendering,
    Rule,
    TransitKey,
    render_openbao,
)
from lacre.policy.rendering.terraform import render_terraform

__all__ = [
    "AwsKey",
    "AwsRendering",
    "Credential",
    "OpenBaoRendering",
    "Rule",
    "TransitKey",
    "render_aws",
    "render_cloudformation",
    "render_openbao",
    "render_terraform",
]
