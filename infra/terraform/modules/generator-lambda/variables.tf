variable "name" {
  description = "Name of the function and its role."
  type        = string
}

variable "image" {
  description = "Image of the function, by its digest."
  type        = string

  validation {
    condition     = can(regex("@sha256:[0-9a-f]{64}$", var.image))
    error_message = "By its digest, `...@sha256:...`: a tag says which image was meant once."
  }
}

variable "queue_arn" {
  description = "The queue that it sends to."
  type        = string
}

variable "queue_url" {
  description = "Address of that queue."
  type        = string
}

variable "log_group_name" {
  description = "Encrypted log group of the function."
  type        = string
}

variable "schedule" {
  description = "When it is called, as EventBridge writes it; null for never by itself."
  type        = string
  default     = null
}

variable "tags" {
  description = "Tags of what is made."
  type        = map(string)
  default     = {}
}
