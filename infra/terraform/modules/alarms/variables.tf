variable "name" {
  description = "What the names begin with."
  type        = string
}

variable "kms_key_arn" {
  description = "Key of the topic, which CloudWatch may use."
  type        = string
}

variable "kms_calls" {
  description = "Cryptographic calls of KMS in five minutes, above which it is unusual."
  type        = number
  default     = 1000
}

variable "secret_reads" {
  description = "Reads of secrets in five minutes, above which it is more than expected."
  type        = number
  default     = 100
}

variable "email_addresses" {
  description = "Who is told, each after confirming."
  type        = set(string)
  default     = []
}

variable "tags" {
  description = "Tags of what is made."
  type        = map(string)
  default     = {}
}
