variable "region" {
  description = "Where everything is made."
  type        = string
}

variable "pipeline_role_arns" {
  description = "Roles that deploy this stack."
  type        = list(string)
}
