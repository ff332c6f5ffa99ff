variable "name" {
  description = "Name of the alias, without `alias/`."
  type        = string

  validation {
    condition     = can(regex("^[a-zA-Z0-9/_-]+$", var.name)) && !startswith(var.name, "aws/")
    error_message = "Letters, digits, `/`, `_` and `-`; `aws/` is AWS's own."
  }
}

variable "description" {
  description = "What the key encrypts."
  type        = string
}

variable "context" {
  description = "Pairs that every use has to send, with these values. None is personal: CloudTrail writes them down."
  type        = map(string)

  validation {
    condition     = length(var.context) > 0 && alltrue([for name, value in var.context : name == lower(name) && !strcontains(value, "*") && value != ""])
    error_message = "At least one pair; names in lower case, as grants compare them; values without `*`."
  }
}

variable "present" {
  description = "Names of pairs that every use has to send, with any value."
  type        = list(string)
  default     = []
}

variable "optional" {
  description = "Names of pairs that a use may send. Any other pair is refused."
  type        = list(string)
  default     = []

  validation {
    condition     = length(setintersection(var.optional, concat(keys(var.context), var.present))) == 0
    error_message = "A pair is either required or optional."
  }
}

variable "mint_role_arns" {
  description = "Roles that have data keys made: they cannot open any."
  type        = list(string)

  validation {
    condition     = length(var.mint_role_arns) > 0 && !anytrue([for arn in var.mint_role_arns : strcontains(arn, "*") || endswith(arn, ":root")])
    error_message = "At least one role, each by its whole ARN."
  }

  validation {
    condition     = length(setintersection(var.mint_role_arns, var.open_role_arns)) == 0
    error_message = "Who mints does not open: a role that does both could plant a key and read what is written under it."
  }
}

variable "mint_in_the_clear" {
  description = "Whether a data key comes back in the clear beside the wrapped one: what a producer of messages needs, and nobody who fills a key store."
  type        = bool
  default     = false
}

variable "open_role_arns" {
  description = "Roles that open data keys: they cannot make any."
  type        = list(string)

  validation {
    condition     = length(var.open_role_arns) > 0 && !anytrue([for arn in var.open_role_arns : strcontains(arn, "*") || endswith(arn, ":root")])
    error_message = "At least one role, each by its whole ARN."
  }
}

variable "administrator_role_arns" {
  description = "Roles that look after the key: rotate, disable, delete with delay. They can neither use it nor let anybody use it."
  type        = list(string)

  validation {
    condition     = length(var.administrator_role_arns) > 0 && !anytrue([for arn in var.administrator_role_arns : strcontains(arn, "*")])
    error_message = "At least one role, each by its whole ARN."
  }

  validation {
    condition     = length(setintersection(var.administrator_role_arns, concat([var.deploy_role_arn], var.mint_role_arns, var.open_role_arns))) == 0
    error_message = "An administrator neither uses the key nor writes its policy."
  }
}

variable "deploy_role_arn" {
  description = "The role that applies this: it writes the key's policy and creates the store."
  type        = string

  validation {
    condition     = !strcontains(var.deploy_role_arn, "*")
    error_message = "One role, by its whole ARN."
  }
}

variable "auditor_role_arns" {
  description = "Roles that look at the key, its policy and its grants."
  type        = list(string)
  default     = []
}

variable "deletion_window_days" {
  description = "Days between the wish to delete the key and its end."
  type        = number
  default     = 30

  validation {
    condition     = var.deletion_window_days >= 7 && var.deletion_window_days <= 30 && floor(var.deletion_window_days) == var.deletion_window_days
    error_message = "Between 7 and 30 whole days."
  }
}

variable "tags" {
  description = "Tags of the key."
  type        = map(string)
  default     = {}
}
