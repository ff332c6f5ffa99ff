output "arn" {
  description = "ARN of the distribution: who may read the bucket of media."
  value       = aws_cloudfront_distribution.this.arn
}

output "domain_name" {
  description = "CloudFront's name of it, to which the names of clients point."
  value       = aws_cloudfront_distribution.this.domain_name
}
