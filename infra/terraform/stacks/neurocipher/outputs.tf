output "data_key_alias" {
  description = "Alias of the key for data."
  value       = module.kms.data_key_alias
}

output "logs_key_alias" {
  description = "Alias of the key for logs."
  value       = module.kms.logs_key_alias
}

output "trail_arn" {
  description = "ARN of the trail."
  value       = module.cloudtrail.trail_arn
}
