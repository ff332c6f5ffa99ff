output "department_key_arns" {
  description = "Key of each department."
  value       = { for name, key in module.department_keys : name => key.arn }
}

output "department_key_policies" {
  description = "Policy of each department's key, as text."
  value       = { for name, key in module.department_keys : name => key.policy_json }
}

output "queue_key_policy" {
  description = "Policy of the queue's key, as text."
  value       = module.store_keys["queue"].policy_json
}

output "role_arns" {
  description = "Role of the generator, the producer, and each department's consumer."
  value = merge(
    { generator = module.generator.role_arn, producer = module.producer.role_arn },
    { for name, consumer in module.consumers : name => consumer.role_arn },
  )
}

output "role_policies" {
  description = "What these roles may do by IAM, as text."
  value = merge(
    { generator = module.generator.role_policy_json, producer = module.producer.role_policy_json },
    { for name, consumer in module.consumers : name => consumer.role_policy_json },
  )
}

output "repository_urls" {
  description = "Where each image goes."
  value       = module.images.urls
}
