variable "region" {
  description = "Where everything is made, the keys included."
  type        = string
}

variable "environment" {
  description = "Environment: part of every name, and of what keys are bound to."
  type        = string
}

variable "vpc_id" {
  description = "The network."
  type        = string
}

variable "private_subnet_ids" {
  description = "Subnets of services and stores, in two zones at least."
  type        = list(string)
}

variable "public_subnet_ids" {
  description = "Subnets of the load balancer, in two zones at least."
  type        = list(string)
}

variable "cloudfront_prefix_list_id" {
  description = "CloudFront's prefix list of addresses that ask origins, in this region."
  type        = string
}

variable "key_administrator_role_arn" {
  description = "Looks after the keys: rotates, disables, deletes with delay. Uses none."
  type        = string
}

variable "deploy_role_arn" {
  description = "Applies this stack: writes policies of keys. Uses none."
  type        = string
}

variable "security_auditor_role_arn" {
  description = "Looks at keys, their policies and their grants."
  type        = string
}

variable "mint_role_arn" {
  description = "Has keys of fields and indexes made, for new tenants and rotation. Opens none."
  type        = string
}

variable "rotation_lambda_arn" {
  description = "Function that rotates secrets."
  type        = string
}

variable "rotation_role_arn" {
  description = "Role of that function."
  type        = string
}

variable "launch_role_arns" {
  description = "Roles that launch instances with volumes, if any do."
  type        = list(string)
  default     = []
}

variable "image" {
  description = "Image of the services, by its digest."
  type        = string
}

variable "repository_arn" {
  description = "Repository of that image."
  type        = string
}

variable "domain_name" {
  description = "Name that clients use."
  type        = string
}

variable "origin_domain_name" {
  description = "Name of the load balancer, which its certificate has."
  type        = string
}

variable "distribution_certificate_arn" {
  description = "Certificate of `domain_name`, in us-east-1."
  type        = string
}

variable "load_balancer_certificate_arn" {
  description = "Certificate of `origin_domain_name`, in this region."
  type        = string
}

variable "web_acl_arn" {
  description = "Web application firewall before CloudFront, if any."
  type        = string
  default     = null
}

variable "alert_email_addresses" {
  description = "Who is told of alarms."
  type        = set(string)
  default     = []
}

variable "restore_from_snapshot" {
  description = "Snapshot of the database that is not encrypted yet, to begin with."
  type        = string
  default     = null
}
