variable "name" {
  description = "What the names of the rules begin with."
  type        = string
}

variable "database_kms_key_arn" {
  description = "Key that databases have to be under."
  type        = string
}

variable "documents_kms_key_arn" {
  description = "Key that the documents have to be under."
  type        = string
}

variable "documents_bucket" {
  description = "Bucket of the documents."
  type        = string
}

variable "volumes_kms_key_arn" {
  description = "Key that volumes have to be under."
  type        = string
}

variable "tables_kms_key_arn" {
  description = "Key that tables have to be under."
  type        = string
}

variable "secrets_kms_key_arn" {
  description = "Key that secrets have to be under."
  type        = string
}

variable "tags" {
  description = "Tags of what is made."
  type        = map(string)
  default     = {}
}
