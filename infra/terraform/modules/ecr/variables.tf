variable "names" {
  description = "Names of the repositories."
  type        = set(string)
}

variable "kms_key_arn" {
  description = "Key of the images."
  type        = string
}

variable "function_names" {
  description = "For each repository of a Lambda function's image: the function's name."
  type        = map(string)
  default     = {}
}

variable "tags" {
  description = "Tags of what is made."
  type        = map(string)
  default     = {}
}
