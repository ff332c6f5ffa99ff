data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  # As AWS publishes them, once a minute, for account and region together.
  usage = {
    kms_cryptographic_operations = { service = "KMS", operation = "CryptographicOperationsSymmetric", threshold = var.kms_calls }
    secret_reads                 = { service = "Secrets Manager", operation = "GetSecretValue", threshold = var.secret_reads }
  }
}

resource "aws_sns_topic" "this" {
  name              = "${var.name}-security-alerts"
  kms_master_key_id = var.kms_key_arn
  tags              = var.tags
}

resource "aws_sns_topic_policy" "this" {
  arn = aws_sns_topic.this.arn

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "PublishByAlarms"
      Effect    = "Allow"
      Principal = { Service = "cloudwatch.amazonaws.com" }
      Action    = "sns:Publish"
      Resource  = "arn:${data.aws_partition.current.partition}:sns:${data.aws_region.current.name}:${data.aws_caller_identity.current.account_id}:${aws_sns_topic.this.name}"
      Condition = { StringEquals = { "aws:SourceAccount" = data.aws_caller_identity.current.account_id } }
    }]
  })
}

resource "aws_sns_topic_subscription" "this" {
  for_each = var.email_addresses

  topic_arn = aws_sns_topic.this.arn
  protocol  = "email"
  endpoint  = each.value
}

resource "aws_cloudwatch_metric_alarm" "usage" {
  for_each = local.usage

  alarm_name          = "${var.name}-${replace(each.key, "_", "-")}"
  alarm_description   = "${each.value.service}: more than ${each.value.threshold} calls of ${each.value.operation} in five minutes, in this account and region."
  namespace           = "AWS/Usage"
  metric_name         = "CallCount"
  statistic           = "Sum"
  period              = 300
  evaluation_periods  = 1
  comparison_operator = "GreaterThanThreshold"
  threshold           = each.value.threshold
  treat_missing_data  = "notBreaching"

  dimensions = {
    Service  = each.value.service
    Type     = "API"
    Resource = each.value.operation
    Class    = "None"
  }

  alarm_actions = [aws_sns_topic.this.arn]
  ok_actions    = [aws_sns_topic.this.arn]
  tags          = var.tags
}
