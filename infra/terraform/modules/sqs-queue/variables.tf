variable "name" {
  description = "Name of the queue; that of what could not be handled ends with `-dead`."
  type        = string
}

variable "kms_key_arn" {
  description = "Key of the messages in both queues."
  type        = string
}

variable "sender_role_arns" {
  description = "Roles that may send at most, whatever IAM allows to others."
  type        = list(string)

  validation {
    condition     = length(var.sender_role_arns) > 0 && !anytrue([for arn in var.sender_role_arns : strcontains(arn, "*")])
    error_message = "At least one role, each by its whole ARN."
  }
}

variable "receiver_role_arns" {
  description = "Roles that may receive at most, whatever IAM allows to others."
  type        = list(string)

  validation {
    condition     = length(var.receiver_role_arns) > 0 && !anytrue([for arn in var.receiver_role_arns : strcontains(arn, "*")])
    error_message = "At least one role, each by its whole ARN."
  }
}

variable "visibility_timeout_seconds" {
  description = "How long a message that was received is kept from others."
  type        = number
  default     = 60
}

variable "retention_seconds" {
  description = "How long a message waits at most: it holds personal data, not yet encrypted by its owner."
  type        = number
  default     = 86400
}

variable "attempts" {
  description = "How often a message is received before it is put aside."
  type        = number
  default     = 5
}

variable "tags" {
  description = "Tags of what is made."
  type        = map(string)
  default     = {}
}
