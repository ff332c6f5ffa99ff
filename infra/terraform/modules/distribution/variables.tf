variable "name" {
  description = "Name of the distribution, in its comment and its policies."
  type        = string
}

variable "domain_names" {
  description = "Names that clients use, which the certificate has."
  type        = list(string)

  validation {
    condition     = length(var.domain_names) > 0
    error_message = "One at least: CloudFront's own name takes TLS 1.0, whatever is set."
  }
}

variable "certificate_arn" {
  description = "Certificate of ACM in us-east-1, as CloudFront asks."
  type        = string

  validation {
    condition     = can(regex("^arn:aws[a-z-]*:acm:us-east-1:", var.certificate_arn))
    error_message = "CloudFront takes certificates of us-east-1 only."
  }
}

variable "minimum_protocol_version" {
  description = "The least TLS of a client, and its ciphers."
  type        = string
  default     = "TLSv1.2_2021"

  validation {
    condition     = can(regex("^TLSv1[.](2_2021|2_2025|3_20[0-9]{2})$", var.minimum_protocol_version))
    error_message = "TLSv1.2_2021 or newer."
  }
}

variable "service_domain_name" {
  description = "Name of the load balancer, which its certificate has."
  type        = string
}

variable "media_domain_name" {
  description = "Regional domain name of the bucket of media."
  type        = string
}

variable "web_acl_arn" {
  description = "Web application firewall before it, if any."
  type        = string
  default     = null
}

variable "tags" {
  description = "Tags of what is made."
  type        = map(string)
  default     = {}
}
