variable "name" {
  description = "Name of the bucket."
  type        = string
}

variable "kms_key_arn" {
  description = "Key of the objects (SSE-KMS with a bucket key), or null for SSE-S3. Has no default: which one it is, is said."
  type        = string
  nullable    = true
}

variable "distribution_arn" {
  description = "CloudFront distribution that may read, if any. Nothing else is let in by the bucket."
  type        = string
  default     = null
}

variable "access_log_bucket" {
  description = "Bucket for S3's access logs, if any."
  type        = string
  default     = null
}

variable "log_source_account_id" {
  description = "Account whose buckets and load balancers write their access logs into this one, if it is the bucket of logs."
  type        = string
  default     = null
}

variable "earlier_versions_days" {
  description = "Days that an overwritten or deleted object can be brought back: and that its erasure waits."
  type        = number
  default     = 30

  validation {
    condition     = var.earlier_versions_days >= 1
    error_message = "One day at least."
  }
}

variable "tags" {
  description = "Tags of what is made."
  type        = map(string)
  default     = {}
}
