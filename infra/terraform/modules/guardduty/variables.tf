variable "environment" {
  description = "The environment that is watched."
  type        = string

  validation {
    condition     = contains(["dev", "stg", "prod"], var.environment)
    error_message = "One of dev, stg, prod."
  }
}

variable "features" {
  description = "What is looked at beside CloudTrail's management events (calls to KMS among them), VPC flow logs and DNS."
  type        = list(string)
  default     = ["LAMBDA_NETWORK_LOGS", "RDS_LOGIN_EVENTS", "S3_DATA_EVENTS"]
}

variable "minimum_severity" {
  description = "Findings below it are not told to the topic: 1 low, 4 medium, 7 high, 9 critical."
  type        = number
  default     = 4

  validation {
    condition     = var.minimum_severity >= 1 && var.minimum_severity <= 10
    error_message = "Between 1 and 10."
  }
}

variable "alert_topic_arn" {
  description = "SNS topic that is told of findings. Its policy must let events.amazonaws.com publish."
  type        = string
  default     = null
}

variable "tags" {
  description = "Tags of what is made."
  type        = map(string)
  default     = {}
}
