output "arn" {
  description = "ARN of the queue."
  value       = "${local.prefix}:${aws_sqs_queue.this.name}"
}

output "url" {
  description = "Address of the queue."
  value       = aws_sqs_queue.this.id
}

output "dead_arn" {
  description = "ARN of the queue of what could not be handled."
  value       = "${local.prefix}:${aws_sqs_queue.dead.name}"
}
