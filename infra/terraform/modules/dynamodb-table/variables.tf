variable "name" {
  description = "Name of the table."
  type        = string
}

variable "kms_key_arn" {
  description = "Key of the table, its indexes, streams and backups."
  type        = string
}

variable "hash_key" {
  description = "Name of the partition key, a string. Keys are readable in logs and metrics: nothing personal in them."
  type        = string
}

variable "range_key" {
  description = "Name of the sort key, a string, if there is one."
  type        = string
  default     = null
}

variable "ttl_attribute" {
  description = "Attribute with the time at which an item ends, if items end."
  type        = string
  default     = null
}

variable "tags" {
  description = "Tags of what is made."
  type        = map(string)
  default     = {}
}
