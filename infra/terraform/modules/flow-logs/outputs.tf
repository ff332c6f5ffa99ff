output "role_arn" {
  description = "ARN of the role that writes."
  value       = aws_iam_role.this.arn
}
