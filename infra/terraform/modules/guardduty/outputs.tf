output "detector_id" {
  description = "Id of the detector."
  value       = aws_guardduty_detector.this.id
}

output "rule_name" {
  description = "EventBridge rule of the findings."
  value       = aws_cloudwatch_event_rule.findings.name
}
