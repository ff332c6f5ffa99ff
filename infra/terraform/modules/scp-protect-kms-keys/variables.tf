variable "target_ids" {
  description = "Roots, organizational units and accounts that the policy is attached to. Empty: it is made and attached nowhere."
  type        = list(string)
  default     = []
}

variable "pipeline_role_arns" {
  description = "Roles that deploy: they alone may disable and delete keys, replace key policies, stop rotation and move aliases."
  type        = list(string)

  validation {
    condition     = length(var.pipeline_role_arns) > 0
    error_message = "Without a role that may, no key policy could ever be changed."
  }

  validation {
    condition = alltrue([
      for arn in var.pipeline_role_arns : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]+$", arn))
    ])
    error_message = "Each is the whole ARN of a role, without wildcards."
  }
}

variable "deletion_window_days" {
  description = "The shortest waiting time that a deletion may be scheduled with, for the pipeline too."
  type        = number
  default     = 30

  validation {
    condition     = var.deletion_window_days >= 7 && var.deletion_window_days <= 30 && floor(var.deletion_window_days) == var.deletion_window_days
    error_message = "Between 7 and 30 whole days."
  }
}

variable "tags" {
  description = "Tags of what is made."
  type        = map(string)
  default     = {}
}
