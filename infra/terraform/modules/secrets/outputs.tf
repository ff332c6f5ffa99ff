output "arns" {
  description = "ARN of each secret, by its path without application and environment."
  value       = { for path, secret in aws_secretsmanager_secret.this : path => secret.arn }
}

output "names" {
  description = "Name of each secret, by the same."
  value       = { for path, secret in aws_secretsmanager_secret.this : path => secret.name }
}
