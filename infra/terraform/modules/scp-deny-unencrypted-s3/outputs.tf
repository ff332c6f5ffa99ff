output "policy_id" {
  description = "Id of the policy."
  value       = aws_organizations_policy.this.id
}

output "policy_json" {
  description = "The policy, as text."
  value       = aws_organizations_policy.this.content
}
