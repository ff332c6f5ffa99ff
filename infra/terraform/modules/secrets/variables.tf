variable "application" {
  description = "First part of every path."
  type        = string
}

variable "environment" {
  description = "Second part of every path."
  type        = string
}

variable "kms_key_arn" {
  description = "Key of the secrets."
  type        = string
}

variable "secrets" {
  description = "Each secret by the rest of its path: what it is, after how many days it has to have been rotated, who reads it (the rotation's role too), and the Lambda that rotates it, if one does. Values are put in from outside, never by Terraform, whose state would hold them."
  type = map(object({
    description         = string
    rotation_days       = number
    reader_role_arns    = list(string)
    rotation_lambda_arn = optional(string)
  }))

  validation {
    condition     = alltrue([for secret in values(var.secrets) : secret.rotation_days >= 1 && secret.rotation_days <= 365])
    error_message = "Each secret is rotated within a year."
  }

  validation {
    condition     = alltrue([for secret in values(var.secrets) : length(secret.reader_role_arns) > 0 && !anytrue([for arn in secret.reader_role_arns : strcontains(arn, "*")])])
    error_message = "Each secret has readers, by their whole ARNs."
  }

  validation {
    condition     = !anytrue([for path in keys(var.secrets) : strcontains(path, "encryption-dek")])
    error_message = "A data key is no secret to keep: it is made by the key service and stored wrapped."
  }
}

variable "tags" {
  description = "Tags of what is made."
  type        = map(string)
  default     = {}
}
