variable "name" {
  description = "Name of the cluster and its configuration."
  type        = string
}

variable "kms_key_arn" {
  description = "Key of the brokers' volumes."
  type        = string
}

variable "kafka_version" {
  description = "Version of Apache Kafka, as MSK names it."
  type        = string
  default     = "3.8.x"
}

variable "instance_type" {
  description = "Type of the brokers."
  type        = string
  default     = "kafka.m7g.large"
}

variable "volume_gib" {
  description = "Storage of each broker."
  type        = number
  default     = 100
}

variable "subnet_ids" {
  description = "Private subnets in three zones, a broker in each."
  type        = list(string)

  validation {
    condition     = length(var.subnet_ids) == 3
    error_message = "Three: each record is in three zones."
  }
}

variable "security_group_ids" {
  description = "Security groups that say who reaches port 9098."
  type        = list(string)
}

variable "log_group_name" {
  description = "Encrypted log group of the brokers."
  type        = string
}

variable "tags" {
  description = "Tags of what is made."
  type        = map(string)
  default     = {}
}
