output "topic_arn" {
  description = "The topic of security alerts."
  value       = aws_sns_topic.this.arn
}

output "alarm_arns" {
  description = "ARN of each alarm, by what it counts."
  value       = { for name, alarm in aws_cloudwatch_metric_alarm.usage : name => alarm.arn }
}
