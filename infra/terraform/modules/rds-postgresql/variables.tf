variable "name" {
  description = "Identifier of the instance."
  type        = string
}

variable "kms_key_arn" {
  description = "Key of the storage, the snapshots and the backups."
  type        = string

  validation {
    condition     = can(regex(":key/", var.kms_key_arn))
    error_message = "The ARN of a key, not of an alias: which key it is must not be moved."
  }
}

variable "secrets_kms_key_arn" {
  description = "Key of the secret `rds!db-...`, in which RDS keeps the master user's password. Who creates the database has to be let write through Secrets Manager with it."
  type        = string
}

variable "major_version" {
  description = "Major version of PostgreSQL."
  type        = string
  default     = "16"

  validation {
    condition     = can(regex("^1[5-9]$", var.major_version))
    error_message = "From 15 on."
  }
}

variable "instance_class" {
  description = "Class of the instance."
  type        = string
  default     = "db.t4g.medium"
}

variable "allocated_storage_gib" {
  description = "Storage at first; it grows to four times that."
  type        = number
  default     = 50
}

variable "database_name" {
  description = "Name of the database that is created. Not used with `restore_from_snapshot`."
  type        = string
}

variable "master_username" {
  description = "The master user, whose password RDS makes, keeps in Secrets Manager and rotates. Not used with `restore_from_snapshot`."
  type        = string
  default     = "postgres"
}

variable "restore_from_snapshot" {
  description = "Snapshot to begin with: unencrypted, or under another key. It is copied under `kms_key_arn` and the copy is restored. May be left out afterwards."
  type        = string
  default     = null
}

variable "subnet_ids" {
  description = "Private subnets, in two zones at least."
  type        = list(string)

  validation {
    condition     = length(var.subnet_ids) >= 2
    error_message = "Two at least."
  }
}

variable "security_group_ids" {
  description = "Security groups that say who reaches port 5432."
  type        = list(string)
}

variable "ca_cert_identifier" {
  description = "Authority of the server's certificate, whose bundle clients verify with."
  type        = string
  default     = "rds-ca-rsa2048-g1"

  validation {
    condition     = var.ca_cert_identifier != "rds-ca-2019"
    error_message = "rds-ca-2019 expired in August 2024."
  }
}

variable "backup_retention_days" {
  description = "Days that automatic backups are kept."
  type        = number
  default     = 35

  validation {
    condition     = var.backup_retention_days >= 1 && var.backup_retention_days <= 35
    error_message = "Between 1 and 35."
  }
}

variable "tags" {
  description = "Tags of what is made."
  type        = map(string)
  default     = {}
}
