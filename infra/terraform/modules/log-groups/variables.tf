variable "names" {
  description = "Names of the log groups. The key's policy has to name them in `aws:logs:arn`."
  type        = set(string)
}

variable "kms_key_arn" {
  description = "Key of the log groups."
  type        = string
}

variable "retention_days" {
  description = "Days that entries are kept."
  type        = number
  default     = 365

  validation {
    condition     = contains([365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.retention_days)
    error_message = "One of what CloudWatch knows, a year at least: 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653. Seven years are 2557 days."
  }
}

variable "tags" {
  description = "Tags of what is made."
  type        = map(string)
  default     = {}
}
