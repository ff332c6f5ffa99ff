output "arns" {
  description = "ARN of each log group, by its name."
  value       = { for name, group in aws_cloudwatch_log_group.this : name => group.arn }
}
