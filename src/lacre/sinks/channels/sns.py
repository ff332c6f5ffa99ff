# SPDX-License-Identifier: Apache-2.0
"""
Amazon SNS: one topic, with the credentials of the SDK's own chain.

The message is JSON; severity and rule are attributes, for filters of subscriptions. A FIFO topic
takes a message once however often it is sent within five minutes. Leans on boto3.
"""

import json
from typing import Any

from lacre.audit.alerts import Message
from lacre.errors import AlertNotDelivered, ConfigurationError

__all__ = ["Topic"]

_LARGEST = 250_000  # bytes; SNS takes 256 KiB


class Topic:
    """One topic, by its ARN."""

    def __init__(
        self, arn: str, *, endpoint_url: str | None = None, profile: str | None = None
    ) -> None:
        try:
            import boto3
            from botocore.config import Config
        except ModuleNotFoundError:
            raise ConfigurationError(
                "boto3 is not installed", hint="pip install 'lacre[aws]'"
            ) from None
        self._arn = arn
        config = Config(
            connect_timeout=10, read_timeout=10, retries={"total_max_attempts": 1, "mode": "standard"}
        )  # fmt: skip
        session = boto3.session.Session(profile_name=profile, region_name=arn.split(":")[3])
        self._client: Any = session.client("sns", endpoint_url=endpoint_url, config=config)

    def send(self, message: Message) -> None:
        """Deliver *message*."""
        from botocore.exceptions import BotoCoreError, ClientError

        written = message.written()
        body = json.dumps(written, sort_keys=True)
        if len(body) > _LARGEST:
            body = json.dumps(written | {"alerts": [], "lines": list(message.lines)})
        request: dict[str, Any] = {
            "TopicArn": self._arn,
            "Subject": message.title.encode("ascii", "replace").decode()[:100],
            "Message": body,
            "MessageAttributes": {
                "severity": {"DataType": "String", "StringValue": str(message.severity)},
                "rule": {"DataType": "String", "StringValue": message.alerts[0].rule},
            },
        }
        if self._arn.endswith(".fifo"):
            request |= {"MessageGroupId": "lacre", "MessageDeduplicationId": message.id}
        try:
            self._client.publish(**request)
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            known = code if code.isalnum() and len(code) < 60 else "an error"
            refused = code in ("InvalidParameter", "InvalidParameterValue")
            raise AlertNotDelivered(f"SNS answered {known}", refused=refused) from None
        except BotoCoreError as error:
            raise AlertNotDelivered(f"SNS cannot be reached ({type(error).__name__})") from None
