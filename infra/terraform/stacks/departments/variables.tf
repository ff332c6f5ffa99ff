variable "region" {
  description = "Where everything is made, the keys included."
  type        = string
}

variable "environment" {
  description = "Environment: part of every name, and of what keys are bound to."
  type        = string
}

variable "tenant" {
  description = "Tenant whose events these are."
  type        = string
  default     = "default"
}

variable "vpc_id" {
  description = "The network."
  type        = string
}

variable "private_subnet_ids" {
  description = "Subnets of brokers and services, in three zones."
  type        = list(string)
}

variable "endpoints_security_group_id" {
  description = "Security group of the VPC endpoints of ECR, KMS, SQS and CloudWatch Logs: there is no other way out."
  type        = string
}

variable "s3_prefix_list_id" {
  description = "Prefix list of the S3 endpoint, from which layers of images come."
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

variable "topic" {
  description = "The one topic."
  type        = string
  default     = "departments"
}

variable "departments" {
  description = "Departments that read it, each its own part."
  type        = set(string)
  default     = ["finance", "sales"]
}

variable "images" {
  description = "Image of each program by its digest: `consumer`, `generator`, `producer`."
  type        = object({ consumer = string, generator = string, producer = string })
}

variable "schedule" {
  description = "When the generator is called; null for never by itself."
  type        = string
  default     = "rate(1 minute)"
}
