output "dns_name" {
  description = "Name of the load balancer."
  value       = aws_lb.this.dns_name
}

output "target_group_arn" {
  description = "Where services put their tasks."
  value       = aws_lb_target_group.this.arn
}
