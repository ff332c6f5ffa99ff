output "store_key_arns" {
  description = "Key of each store."
  value       = { for name, key in module.store_keys : name => key.arn }
}

output "class_key_arns" {
  description = "Key of each class and use: what `lacre.toml` names."
  value       = { for name, key in module.class_keys : name => key.arn }
}

output "class_key_policies" {
  description = "Policy of each of these keys, as text."
  value       = { for name, key in module.class_keys : name => key.policy_json }
}

output "store_key_policies" {
  description = "Policy of each store's key, as text."
  value       = { for name, key in module.store_keys : name => key.policy_json }
}

output "service_role_arns" {
  description = "Role of each service."
  value       = { for name, service in module.services : name => service.role_arn }
}

output "database_address" {
  description = "Host name of the database."
  value       = module.database.address
}
