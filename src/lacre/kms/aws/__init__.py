# SPDX-License-Identifier: Apache-2.0
"""AWS KMS as a key service: names.py which key is meant, service.py what is done with it. Needs boto3."""

from lacre.kms.aws.names import check_regions
from lacre.kms.aws.service import AwsKeyService

__all__ = ["AwsKeyService", "check_regions"]
