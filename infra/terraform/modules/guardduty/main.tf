resource "aws_guardduty_detector" "this" {
  enable                       = true
  finding_publishing_frequency = "FIFTEEN_MINUTES"
  tags                         = merge({ Environment = var.environment, ManagedBy = "terraform" }, var.tags)

  # checkov:skip=CKV2_AWS_3: the detector of one account and region; an organization enables its members from its own administrator
}

resource "aws_guardduty_detector_feature" "this" {
  for_each = toset(var.features)

  detector_id = aws_guardduty_detector.this.id
  name        = each.value
  status      = "ENABLED"
}

resource "aws_cloudwatch_event_rule" "findings" {
  name        = "nc-dp-${var.environment}-guardduty"
  description = "GuardDuty found something of severity ${var.minimum_severity} or more."
  tags        = merge({ Environment = var.environment, ManagedBy = "terraform" }, var.tags)

  event_pattern = jsonencode({
    source      = ["aws.guardduty"]
    detail-type = ["GuardDuty Finding"]
    detail      = { severity = [{ numeric = [">=", var.minimum_severity] }] }
  })
}

resource "aws_cloudwatch_event_target" "findings" {
  count = var.alert_topic_arn != null ? 1 : 0

  rule = aws_cloudwatch_event_rule.findings.name
  arn  = var.alert_topic_arn
}
