output "role_arn" {
  description = "ARN of the tasks' role."
  value       = "arn:${local.partition}:iam::${local.account}:role/${aws_iam_role.task.name}"
}

output "role_policy_json" {
  description = "What the tasks' role may do by IAM, as text; null if nothing."
  value       = one(aws_iam_role_policy.task[*].policy)
}

output "start_role_arn" {
  description = "ARN of the role that starts tasks."
  value       = "arn:${local.partition}:iam::${local.account}:role/${aws_iam_role.execution.name}"
}
