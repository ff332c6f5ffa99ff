# SPDX-License-Identifier: Apache-2.0
"""
Whether AWS allows a call: ``decide(call, documents)``, for the policies that lacre renders and those beside them.

Knows key policies and other policies of resources, identity policies, permission boundaries, service
control policies and grants of KMS. Does not know session policies, resource control policies, policies
of VPC endpoints, policy variables, federated principals, nor the state of a key. It rests on the
documentation of AWS and on nothing that ran there.
"""

from lacre.policy.evaluation.aws.calls import Call, kms_call
from lacre.policy.evaluation.aws.deciding import Documents, Verdict, decide
from lacre.policy.evaluation.aws.grants import Grant
from lacre.policy.evaluation.aws.known import KMS_ACTIONS
from lacre.policy.evaluation.aws.statements import Document, Statement

__all__ = [
    "KMS_ACTIONS",
    "Call",
    "Document",
    "Documents",
    "Grant",
    "Statement",
    "Verdict",
    "decide",
    "kms_call",
]
