output "data_key_id" {
  description = "Id of the key for data."
  value       = aws_kms_key.data.key_id
}

output "data_key_arn" {
  description = "ARN of the key for data."
  value       = aws_kms_key.data.arn
}

output "data_key_alias" {
  description = "Alias of the key for data: alias/nc-dp-data-ENVIRONMENT."
  value       = aws_kms_alias.data.name
}

output "logs_key_id" {
  description = "Id of the key for logs."
  value       = aws_kms_key.logs.key_id
}

output "logs_key_arn" {
  description = "ARN of the key for logs."
  value       = aws_kms_key.logs.arn
}

output "logs_key_alias" {
  description = "Alias of the key for logs: alias/nc-dp-logs-ENVIRONMENT."
  value       = aws_kms_alias.logs.name
}

output "data_key_policy" {
  description = "Policy of the key for data, as text: to be compared with what is deployed."
  value       = aws_kms_key.data.policy
}

output "logs_key_policy" {
  description = "Policy of the key for logs, as text."
  value       = aws_kms_key.logs.policy
}
