# SPDX-License-Identifier: Apache-2.0
"""
Alarms of CloudWatch on calls of KMS and of Secrets Manager, for whoever wants them besides findings.

Calls are counted in the namespace `AWS/Usage`, by service, type, class and resource; the namespaces
of the services themselves have no `CallCount`, and an alarm on one there never leaves
INSUFFICIENT_DATA. A metric of an account and region: which KMS key it was is for `reconcile`.

Renders text; creates nothing and calls nobody.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lacre.errors import ConfigurationError

__all__ = ["Alarm", "alarms", "as_cloudformation", "as_json", "as_terraform"]

_TOPIC = re.compile(r"arn:[a-z-]+:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_.-]{1,256}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """
    An alarm when a sum over *period* seconds is above *threshold*.

    *service* and *resource* are dimensions of `AWS/Usage`, whose `Type` is API and `Class` None.
    """

    name: str
    description: str
    service: str
    resource: str
    threshold: int
    period: int = 300

    @property
    def dimensions(self) -> Mapping[str, str]:
        """Return all four: a metric is found by all of its dimensions or not at all."""
        return {
            "Class": "None",
            "Resource": self.resource,
            "Service": self.service,
            "Type": "API",
        }


def alarms(*, app: str, env: str, kms: int = 1000, secrets: int = 100) -> tuple[Alarm, ...]:
    """Return both: more than *kms* operations of keys, or *secrets* reads of secrets, in five minutes."""
    if kms < 1 or secrets < 1:
        raise ConfigurationError("a threshold is a number above zero")
    return (
        Alarm(
            name=f"{app}-{env}-kms-unusual-activity",
            description="Unusually many operations with KMS keys",
            service="KMS",
            resource="CryptographicOperationsSymmetric",
            threshold=kms,
        ),
        Alarm(
            name=f"{app}-{env}-secret-access-anomaly",
            description="Unusually many reads of secrets",
            service="Secrets Manager",
            resource="GetSecretValue",
            threshold=secrets,
        ),
    )


def as_json(chosen: Sequence[Alarm], topic: str) -> list[dict[str, object]]:
    """Return what `put-metric-alarm --cli-input-json` takes, one for each."""
    _check(topic)
    return [
        {
            "AlarmName": each.name,
            "AlarmDescription": each.description,
            "AlarmActions": [topic],
            "Namespace": "AWS/Usage",
            "MetricName": "CallCount",
            "Dimensions": [{"Name": n, "Value": v} for n, v in each.dimensions.items()],
            "Statistic": "Sum",
            "Period": each.period,
            "EvaluationPeriods": 1,
            "Threshold": each.threshold,
            "ComparisonOperator": "GreaterThanThreshold",
            # No calls are no data, and no alarm.
            "TreatMissingData": "notBreaching",
        }
        for each in chosen
    ]


def as_cloudformation(chosen: Sequence[Alarm], topic: str) -> str:
    """Return a template, as JSON, which CloudFormation takes too."""
    resources = {
        _logical(each.name): {"Type": "AWS::CloudWatch::Alarm", "Properties": said}
        for each, said in zip(chosen, as_json(chosen, topic), strict=True)
    }
    template = {"AWSTemplateFormatVersion": "2010-09-09", "Resources": resources}
    return json.dumps(template, indent=2) + "\n"


def as_terraform(chosen: Sequence[Alarm], topic: str) -> str:
    """Return resources for the `aws` provider."""
    _check(topic)
    return "\n".join(_resource(each, topic) for each in chosen)


def _logical(name: str) -> str:
    return "".join(part.capitalize() for part in re.findall(r"[A-Za-z0-9]+", name))


def _resource(alarm: Alarm, topic: str) -> str:
    label = re.sub(r"[^A-Za-z0-9_]", "_", alarm.name)
    dimensions = "\n".join(f"    {n:<8} = {json.dumps(v)}" for n, v in alarm.dimensions.items())
    return f"""\
resource "aws_cloudwatch_metric_alarm" "{label}" {{
  alarm_name          = {json.dumps(alarm.name)}
  alarm_description   = {json.dumps(alarm.description)}
  alarm_actions       = [{json.dumps(topic)}]
  namespace           = "AWS/Usage"
  metric_name         = "CallCount"
  statistic           = "Sum"
  period              = {alarm.period}
  evaluation_periods  = 1
  threshold           = {alarm.threshold}
  comparison_operator = "GreaterThanThreshold"
  treat_missing_data  = "notBreaching"

  dimensions = {{
{dimensions}
  }}
}}
"""


def _check(topic: str) -> None:
    if not _TOPIC.fullmatch(topic):
        raise ConfigurationError(
            "a topic is named by its ARN", hint="arn:aws:sns:REGION:ACCOUNT:NAME"
        )
