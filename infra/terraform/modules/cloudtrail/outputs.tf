output "trail_arn" {
  description = "ARN of the trail."
  value       = aws_cloudtrail.this.arn
}

output "bucket_name" {
  description = "Bucket with the log files."
  value       = aws_s3_bucket.this.id
}

output "bucket_arn" {
  description = "ARN of the bucket."
  value       = aws_s3_bucket.this.arn
}

output "log_group_name" {
  description = "Log group with the same events."
  value       = aws_cloudwatch_log_group.this.name
}

output "rule_names" {
  description = "EventBridge rules: of keys, and of the record itself."
  value       = [aws_cloudwatch_event_rule.keys.name, aws_cloudwatch_event_rule.record.name]
}
