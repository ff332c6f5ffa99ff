variable "name" {
  description = "Name of the role's beginning."
  type        = string
}

variable "vpc_id" {
  description = "The network whose flows are written down."
  type        = string
}

variable "log_group_name" {
  description = "Log group that they are written to, encrypted."
  type        = string
}

variable "log_group_arn" {
  description = "ARN of that log group."
  type        = string
}

variable "tags" {
  description = "Tags of what is made."
  type        = map(string)
  default     = {}
}
