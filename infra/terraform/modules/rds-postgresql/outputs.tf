output "arn" {
  description = "ARN of the instance."
  value       = aws_db_instance.this.arn
}

output "address" {
  description = "Host name, which the server's certificate names."
  value       = aws_db_instance.this.address
}

output "resource_id" {
  description = "Id that `rds-db:connect` names: for `dbuser:ID/NAME`."
  value       = aws_db_instance.this.resource_id
}

output "parameter_group_name" {
  description = "Name of the parameter group that forces TLS."
  value       = aws_db_parameter_group.this.name
}
