variable "environment" {
  description = "The environment whose calls are recorded."
  type        = string

  validation {
    condition     = contains(["dev", "stg", "prod"], var.environment)
    error_message = "One of dev, stg, prod."
  }
}

variable "name" {
  description = "Name of the trail; the module `kms` must be given the same as `trail_name`. Without it: nc-dp-ENVIRONMENT, in both."
  type        = string
  default     = null
}

variable "bucket_name" {
  description = "Name of the bucket that is made for the log files."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.bucket_name))
    error_message = "The name of a bucket, not its ARN."
  }
}

variable "kms_key_arn" {
  description = "The logs key: `logs_key_arn` of the module `kms`."
  type        = string

  validation {
    condition     = can(regex("^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[a-z0-9-]+$", var.kms_key_arn))
    error_message = "The ARN of a key, not of an alias: an alias can be moved."
  }
}

variable "object_lock_mode" {
  description = "GOVERNANCE or COMPLIANCE: log files cannot be deleted or replaced for `object_lock_days`. Only a new bucket can be given one."
  type        = string
  default     = null

  validation {
    condition     = var.object_lock_mode == null || contains(["GOVERNANCE", "COMPLIANCE"], coalesce(var.object_lock_mode, "-"))
    error_message = "GOVERNANCE or COMPLIANCE."
  }
}

variable "object_lock_days" {
  description = "Days a log file is locked."
  type        = number
  default     = 365

  validation {
    condition     = var.object_lock_days >= 1 && var.object_lock_days <= var.retention_days
    error_message = "Not longer than the files are kept."
  }
}

variable "retention_days" {
  description = "Days the log files are kept. Seven years, leap days counted."
  type        = number
  default     = 2557

  validation {
    condition     = var.retention_days >= 365
    error_message = "At least a year."
  }
}

variable "log_group_retention_days" {
  description = "Days the log group keeps the events."
  type        = number
  default     = 365

  validation {
    condition     = contains([365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_group_retention_days)
    error_message = "One of the terms of CloudWatch Logs, of a year or more."
  }
}

variable "permissions_boundary_arn" {
  description = "Permissions boundary of the role that writes to the log group."
  type        = string
  default     = null
}

variable "alert_topic_arn" {
  description = "SNS topic that is told of calls that end or open a key, or stop the record. Its policy must let events.amazonaws.com publish."
  type        = string
  default     = null
}

variable "tags" {
  description = "Tags of what is made."
  type        = map(string)
  default     = {}
}
