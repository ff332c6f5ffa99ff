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

variable "service" {
  description = "The one service that uses the key: `dynamodb`, `ec2` (EBS), `ecr`, `elasticache`, `kafka`, `logs`, `rds`, `s3`, `secretsmanager`, `sns` or `sqs`."
  type        = string

  validation {
    condition     = contains(["dynamodb", "ec2", "ecr", "elasticache", "kafka", "logs", "rds", "s3", "secretsmanager", "sns", "sqs"], var.service)
    error_message = "One of `dynamodb`, `ec2`, `ecr`, `elasticache`, `kafka`, `logs`, `rds`, `s3`, `secretsmanager`, `sns`, `sqs`."
  }
}

variable "context" {
  description = "Pairs of the encryption context that the service sends, by name, with `*` where a value ends differently: what the key may be used for. `logs` needs `aws:logs:arn`."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for value in values(var.context) : !startswith(value, "*")])
    error_message = "A value says at least how it begins."
  }

  validation {
    condition     = var.service != "logs" || contains(keys(var.context), "aws:logs:arn")
    error_message = "For `logs` the pair `aws:logs:arn` says whose log groups: without it, those of any account."
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
    condition     = length(setintersection(var.administrator_role_arns, concat([var.deploy_role_arn], var.reader_role_arns, var.writer_role_arns))) == 0
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

variable "reader_role_arns" {
  description = "Roles that read what the service stores under the key. Only where the service acts in the caller's name: `dynamodb`, `ec2`, `s3`, `secretsmanager`, `sqs`."
  type        = list(string)
  default     = []

  validation {
    condition     = length(var.reader_role_arns) == 0 || contains(["dynamodb", "ec2", "s3", "secretsmanager", "sqs"], var.service)
    error_message = "This service uses the key in its own name: nobody else is to be let."
  }

  validation {
    condition     = !anytrue([for arn in var.reader_role_arns : strcontains(arn, "*") || endswith(arn, ":root")])
    error_message = "Each role by its whole ARN."
  }
}

variable "writer_role_arns" {
  description = "Roles that write what the service stores under the key, and read it. For the same services as `reader_role_arns`."
  type        = list(string)
  default     = []

  validation {
    condition     = length(var.writer_role_arns) == 0 || contains(["dynamodb", "ec2", "s3", "secretsmanager", "sqs"], var.service)
    error_message = "This service uses the key in its own name: nobody else is to be let."
  }

  validation {
    condition     = !anytrue([for arn in var.writer_role_arns : strcontains(arn, "*") || endswith(arn, ":root")])
    error_message = "Each role by its whole ARN."
  }
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
