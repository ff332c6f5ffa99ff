variable "name" {
  description = "Id of the replication group, of its users and of their group."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,27}[a-z0-9]$", var.name))
    error_message = "Small letters, digits and `-`, 29 at most: a user's id has 40."
  }
}

variable "kms_key_arn" {
  description = "Key of what is written to disk: snapshots, swap and replication."
  type        = string
}

variable "engine_version" {
  description = "Version of Redis."
  type        = string
  default     = "7.1"
}

variable "node_type" {
  description = "Type of the nodes."
  type        = string
  default     = "cache.t4g.small"
}

variable "access_string" {
  description = "What the application's user may do, as Redis writes it."
  type        = string
  default     = "on ~* +@all -@admin -@dangerous"
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
  description = "Security groups that say who reaches port 6379."
  type        = list(string)
}

variable "snapshot_retention_days" {
  description = "Days that snapshots are kept; 0 for none."
  type        = number
  default     = 1
}

variable "tags" {
  description = "Tags of what is made."
  type        = map(string)
  default     = {}
}
