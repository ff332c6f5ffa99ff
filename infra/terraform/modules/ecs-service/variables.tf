variable "name" {
  description = "Name of the service, its tasks and their role; that of the role that starts them ends with `-start`."
  type        = string
}

variable "cluster_arn" {
  description = "Cluster of the service."
  type        = string
}

variable "image" {
  description = "Image, by its digest."
  type        = string

  validation {
    condition     = can(regex("@sha256:[0-9a-f]{64}$", var.image))
    error_message = "By its digest, `...@sha256:...`: a tag says which image was meant once."
  }
}

variable "repository_arn" {
  description = "Repository of the image."
  type        = string
}

variable "statements" {
  description = "What the program may do, as statements of an IAM policy without their effect: `Sid`, `Action`, `Resource`. What it may do with a key is in the key's policy."
  type = list(object({
    Sid      = string
    Action   = list(string)
    Resource = list(string)
  }))
  default = []

  validation {
    condition     = !anytrue(flatten([for statement in var.statements : [for action in statement.Action : strcontains(action, "*")]]))
    error_message = "Each action by its whole name."
  }

  validation {
    condition     = !anytrue(flatten([for statement in var.statements : [for resource in statement.Resource : resource == "*"]]))
    error_message = "Each statement says on what."
  }

  validation {
    condition     = !anytrue(flatten([for statement in var.statements : [for action in statement.Action : startswith(action, "kms:")]]))
    error_message = "Rights on a key are in the key's policy alone, where they can be read in one place."
  }
}

variable "environment" {
  description = "Settings. Not secrets: a task definition is readable to many."
  type        = map(string)
  default     = {}
}

variable "port" {
  description = "Port on which the tasks speak TLS, if they are asked anything."
  type        = number
  default     = null
}

variable "target_group_arn" {
  description = "Target group of a load balancer, if there is one."
  type        = string
  default     = null
}

variable "log_group_name" {
  description = "Encrypted log group."
  type        = string
}

variable "subnet_ids" {
  description = "Private subnets."
  type        = list(string)
}

variable "security_group_ids" {
  description = "Security groups of the tasks."
  type        = list(string)
}

variable "tasks" {
  description = "How many run."
  type        = number
  default     = 2
}

variable "cpu" {
  description = "Share of a processor, 1024 for one."
  type        = number
  default     = 256
}

variable "memory_mib" {
  description = "Memory of a task."
  type        = number
  default     = 512
}

variable "tags" {
  description = "Tags of what is made."
  type        = map(string)
  default     = {}
}
