variable "region" {
  description = "Where everything is made."
  type        = string
}

variable "environment" {
  description = "One of dev, stg, prod."
  type        = string
}

variable "pipeline_role_arns" {
  description = "Roles that deploy this stack."
  type        = list(string)
}

variable "administrator_role_arns" {
  description = "Roles of people who look after the keys."
  type        = list(string)
}

variable "lambda_role_arns" {
  description = "Roles of Lambda functions that use the data key."
  type        = list(string)
}

variable "fargate_role_arns" {
  description = "Roles of Fargate tasks that use the data key."
  type        = list(string)
}

variable "glue_role_arns" {
  description = "Roles of Glue jobs that use the data key."
  type        = list(string)
}

variable "producer_role_arns" {
  description = "Roles that encrypt events and objects by themselves."
  type        = list(string)
}

variable "provisioner_role_arns" {
  description = "Roles that mint keys they cannot open."
  type        = list(string)
}

variable "storage_role_arns" {
  description = "Roles that make tables, volumes and secrets under the data key."
  type        = list(string)
}

variable "log_reader_role_arns" {
  description = "Roles that read the logs in S3."
  type        = list(string)
}

variable "role_services" {
  description = "Which services a role may name in its encryption context."
  type        = map(list(string))
}

variable "security_account_id" {
  description = "Account that looks at the keys."
  type        = string
}

variable "logs_account_id" {
  description = "Account that reads the logs."
  type        = string
}

variable "data_bucket_arns" {
  description = "Buckets under the data key: raw, normalized, vector."
  type        = list(string)
}

variable "log_bucket_arns" {
  description = "Buckets of application logs and flow logs, under the logs key. The trail's is among them without being named."
  type        = list(string)
}

variable "trail_bucket_name" {
  description = "Bucket that is made for CloudTrail's files."
  type        = string
}

variable "trail_object_lock_mode" {
  description = "GOVERNANCE or COMPLIANCE; null for no lock."
  type        = string
  default     = "GOVERNANCE"
}

variable "alert_topic_arn" {
  description = "SNS topic of the people on call; null for none."
  type        = string
  default     = null
}

variable "watch" {
  description = "Whether GuardDuty is turned on here. Off where the organization's administrator does it for all accounts: a region has one detector."
  type        = bool
  default     = true
}

variable "scp_target_ids" {
  description = "Organizational units and accounts that the service control policies are attached to. The organization's management account makes them."
  type        = list(string)
  default     = []
}
