variable "target_ids" {
  description = "Roots, organizational units and accounts that the policy is attached to. Empty: it is made and attached nowhere."
  type        = list(string)
  default     = []
}

variable "pipeline_role_arns" {
  description = "Roles that deploy: they alone may change the encryption of a bucket."
  type        = list(string)

  validation {
    condition     = length(var.pipeline_role_arns) > 0
    error_message = "At least one role must be able to change the encryption of a bucket."
  }

  validation {
    condition = alltrue([
      for arn in var.pipeline_role_arns : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]+$", arn))
    ])
    error_message = "Each is the whole ARN of a role, without wildcards."
  }
}

variable "kms_key_arns" {
  description = "KMS keys that an upload may name. Empty: any; then a header may still name the key that AWS manages."
  type        = list(string)
  default     = []

  validation {
    condition = alltrue([
      for arn in var.kms_key_arns : can(regex("^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[a-z0-9-]+$", arn))
    ])
    error_message = "Each is the whole ARN of a key, without wildcards: not an alias."
  }
}

variable "sse_s3_bucket_arns" {
  description = "Buckets of public media, where SSE-S3 is enough: objects there may be under S3's own key."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.sse_s3_bucket_arns : can(regex("^arn:aws[a-z-]*:s3:::[a-z0-9.-]+$", arn))])
    error_message = "Each is the ARN of one bucket, without wildcards."
  }
}

variable "tags" {
  description = "Tags of what is made."
  type        = map(string)
  default     = {}
}
