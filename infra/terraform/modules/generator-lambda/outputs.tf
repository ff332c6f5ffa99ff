output "arn" {
  description = "ARN of the function."
  value       = aws_lambda_function.this.arn
}

output "role_arn" {
  description = "ARN of its role."
  value       = "arn:${local.partition}:iam::${local.account}:role/${aws_iam_role.this.name}"
}

output "role_policy_json" {
  description = "What the role may do, as text."
  value       = aws_iam_role_policy.this.policy
}
