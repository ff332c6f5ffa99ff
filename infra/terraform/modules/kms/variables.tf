# Seed 003's names first, then what its policy needs and did not name.

variable "environment" {
  description = "The environment the keys are for: part of the aliases, and the pair `env` of every encryption context."
  type        = string

  validation {
    condition     = contains(["dev", "stg", "prod"], var.environment)
    error_message = "One of dev, stg, prod."
  }
}

variable "enable_key_rotation" {
  description = "New key material every `rotation_period_days`. May be off in dev only."
  type        = bool
  default     = true

  validation {
    condition     = var.enable_key_rotation || var.environment == "dev"
    error_message = "Keys of stg and prod rotate."
  }
}

variable "rotation_period_days" {
  description = "Days between rotations."
  type        = number
  default     = 365

  validation {
    condition     = var.rotation_period_days >= 90 && var.rotation_period_days <= 2560 && floor(var.rotation_period_days) == var.rotation_period_days
    error_message = "Between 90 and 2560 whole days."
  }
}

variable "deletion_window_days" {
  description = "Days a key waits before it is deleted, in which the deletion can be cancelled. In prod, 30."
  type        = number
  default     = 30

  validation {
    condition     = var.deletion_window_days >= 7 && var.deletion_window_days <= 30 && floor(var.deletion_window_days) == var.deletion_window_days
    error_message = "Between 7 and 30 whole days."
  }

  validation {
    condition     = var.deletion_window_days == 30 || var.environment != "prod"
    error_message = "Keys of prod wait 30 days."
  }
}

variable "lambda_role_arns" {
  description = "Roles of Lambda functions that decrypt with the data key, and read and write storage under it."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.lambda_role_arns : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]+$", arn))])
    error_message = "Each is the whole ARN of a role: no wildcard, no user, no session."
  }
}

variable "fargate_role_arns" {
  description = "Roles of Fargate tasks, with the same rights."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.fargate_role_arns : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]+$", arn))])
    error_message = "Each is the whole ARN of a role: no wildcard, no user, no session."
  }
}

variable "glue_role_arns" {
  description = "Roles of Glue jobs, with the same rights."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.glue_role_arns : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]+$", arn))])
    error_message = "Each is the whole ARN of a role: no wildcard, no user, no session."
  }
}

variable "security_account_id" {
  description = "Account that looks at both keys (metadata, rotation, grants) and uses neither."
  type        = string
  default     = null

  validation {
    condition     = var.security_account_id == null || can(regex("^[0-9]{12}$", var.security_account_id))
    error_message = "Twelve digits."
  }
}

variable "logs_account_id" {
  description = "Account that reads, through S3, what is stored under the logs key."
  type        = string
  default     = null

  validation {
    condition     = var.logs_account_id == null || can(regex("^[0-9]{12}$", var.logs_account_id))
    error_message = "Twelve digits."
  }
}

variable "tags" {
  description = "Tags of both keys. `Environment` and `ManagedBy` are there without being given."
  type        = map(string)
  default     = {}
}

variable "deployer_role_arns" {
  description = "Roles that run Terraform on the keys: policies, tags, aliases, rotation. Empty: the role that runs it now."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.deployer_role_arns : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]+$", arn))])
    error_message = "Each is the whole ARN of a role: no wildcard, no user, no session."
  }
}

variable "administrator_role_arns" {
  description = "Roles of people who look after the keys: rotate, disable, delete after the waiting time, revoke grants."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.administrator_role_arns : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]+$", arn))])
    error_message = "Each is the whole ARN of a role: no wildcard, no user, no session."
  }
}

variable "producer_role_arns" {
  description = "Roles that encrypt by themselves, in envelopes: `kms:GenerateDataKey` under the data key."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.producer_role_arns : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]+$", arn))])
    error_message = "Each is the whole ARN of a role: no wildcard, no user, no session."
  }
}

variable "provisioner_role_arns" {
  description = "Roles that mint keys they cannot open: `kms:GenerateDataKeyWithoutPlaintext`. None of them may be in another list."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.provisioner_role_arns : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]+$", arn))])
    error_message = "Each is the whole ARN of a role: no wildcard, no user, no session."
  }
}

variable "storage_role_arns" {
  description = "Roles that make tables, volumes and secrets under the data key: these services take grants and keys in their name."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.storage_role_arns : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]+$", arn))])
    error_message = "Each is the whole ARN of a role: no wildcard, no user, no session."
  }
}

variable "log_reader_role_arns" {
  description = "Roles of this account that read, through S3, what is stored under the logs key."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.log_reader_role_arns : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]+$", arn))])
    error_message = "Each is the whole ARN of a role: no wildcard, no user, no session."
  }
}

variable "app" {
  description = "The pair `app` of every encryption context."
  type        = string
  default     = "neurocipher-pipeline"

  validation {
    condition     = can(regex("^[a-z0-9-]+$", var.app))
    error_message = "Lower-case letters, digits and hyphens."
  }
}

variable "role_services" {
  description = "Which values of the pair `service` a role may name, by its ARN. A role that is not here may name any, but must name one."
  type        = map(list(string))
  default     = {}

  validation {
    condition     = alltrue([for services in values(var.role_services) : length(services) > 0])
    error_message = "A role that may name no service could do nothing."
  }
}

variable "context_pairs" {
  description = "Names of pairs that an encryption context may have; one with any other pair is refused."
  type        = list(string)
  default     = ["app", "aws-crypto-public-key", "class", "env", "kind", "lacre-key", "lacre-row", "service", "tenant"]

  validation {
    condition     = alltrue([for name in ["app", "env", "service"] : contains(var.context_pairs, name)])
    error_message = "`app`, `env` and `service` are always there."
  }

  validation {
    condition     = alltrue([for name in var.context_pairs : can(regex("^[a-z0-9-]+$", name))])
    error_message = "Lower-case letters, digits and hyphens: grants compare names without regard to case, decryption with."
  }
}

variable "region" {
  description = "Region of what is encrypted. Where it is given, the keys are refused in any other."
  type        = string
  default     = null
}

variable "trail_name" {
  description = "Name of the trail whose logs are under the logs key. Without it: nc-dp-ENVIRONMENT, as the module `cloudtrail` calls it."
  type        = string
  default     = null
}

variable "s3_bucket_arns" {
  description = "Buckets whose objects are under the data key. Empty: any that the roles may reach."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.s3_bucket_arns : can(regex("^arn:aws[a-z-]*:s3:::[a-z0-9.-]+$", arn))])
    error_message = "Each is the ARN of one bucket, without wildcards."
  }
}

variable "log_bucket_arns" {
  description = "Buckets whose objects are under the logs key. Empty: any that the roles may reach."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.log_bucket_arns : can(regex("^arn:aws[a-z-]*:s3:::[a-z0-9.-]+$", arn))])
    error_message = "Each is the ARN of one bucket, without wildcards."
  }
}
