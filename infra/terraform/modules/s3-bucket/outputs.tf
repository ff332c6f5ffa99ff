output "name" {
  description = "Name of the bucket."
  value       = aws_s3_bucket.this.bucket
}

output "arn" {
  description = "ARN of the bucket."
  value       = local.arn
}

output "domain_name" {
  description = "Regional domain name: the origin of a distribution."
  value       = aws_s3_bucket.this.bucket_regional_domain_name
}
