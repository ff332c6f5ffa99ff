output "rule_names" {
  description = "Names of the rules, in order."
  value       = sort([for rule in aws_config_config_rule.this : rule.name])
}
