output "names" {
  description = "Name of each log group, by itself: whoever takes it from here waits until the group is there."
  value       = { for name, group in aws_cloudwatch_log_group.this : name => group.name }
}

output "arns" {
  description = "ARN of each log group, by its name."
  value       = { for name, group in aws_cloudwatch_log_group.this : name => group.arn }
}
