output "id" {
  description = "Id of the key."
  value       = aws_kms_key.this.key_id
}

output "arn" {
  description = "ARN of the key."
  value       = aws_kms_key.this.arn
}

output "alias" {
  description = "Name of the alias."
  value       = aws_kms_alias.this.name
}

output "policy_json" {
  description = "The key's policy, as text."
  value       = aws_kms_key.this.policy
}
