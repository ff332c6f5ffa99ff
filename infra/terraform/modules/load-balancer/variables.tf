variable "name" {
  description = "Name of the load balancer and its target group."
  type        = string
}

variable "internal" {
  description = "Whether it has no public address. CloudFront reaches an internal one as a VPC origin."
  type        = bool
  default     = false
}

variable "vpc_id" {
  description = "Network of the targets."
  type        = string
}

variable "subnet_ids" {
  description = "Subnets of the load balancer, in two zones at least."
  type        = list(string)
}

variable "security_group_ids" {
  description = "Security groups that say who reaches port 443: CloudFront's prefix list."
  type        = list(string)
}

variable "certificate_arn" {
  description = "Certificate of ACM, in this region."
  type        = string
}

variable "ssl_policy" {
  description = "What TLS and which ciphers are taken: 1.2 at least."
  type        = string
  default     = "ELBSecurityPolicy-TLS13-1-2-2021-06"

  validation {
    condition     = can(regex("^ELBSecurityPolicy-TLS13-1-[23](-Res)?(-FIPS)?(-PQ)?-20[0-9-]+$", var.ssl_policy))
    error_message = "A policy that begins at TLS 1.2 or 1.3, and without the extended ciphers."
  }
}

variable "target_port" {
  description = "Port on which the tasks speak TLS."
  type        = number
  default     = 8443
}

variable "health_check_path" {
  description = "What is asked of a task, and answered with 200."
  type        = string
  default     = "/health"
}

variable "access_log_bucket" {
  description = "Bucket for the access logs, under SSE-S3."
  type        = string
}

variable "tags" {
  description = "Tags of what is made."
  type        = map(string)
  default     = {}
}
