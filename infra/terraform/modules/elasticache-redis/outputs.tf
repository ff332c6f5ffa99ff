output "arn" {
  description = "ARN of the replication group: for `elasticache:Connect`."
  value       = aws_elasticache_replication_group.this.arn
}

output "endpoint" {
  description = "Host name of the primary."
  value       = aws_elasticache_replication_group.this.primary_endpoint_address
}

output "user_arn" {
  description = "ARN of the application's user: for `elasticache:Connect`."
  value       = aws_elasticache_user.application.arn
}
