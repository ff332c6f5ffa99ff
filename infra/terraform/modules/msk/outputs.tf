output "arn" {
  description = "ARN of the cluster: for `kafka-cluster:Connect`."
  value       = aws_msk_cluster.this.arn
}

output "topics" {
  description = "What the ARN of a topic of this cluster begins with."
  value       = replace(aws_msk_cluster.this.arn, ":cluster/", ":topic/")
}

output "groups" {
  description = "What the ARN of a consumer group of this cluster begins with."
  value       = replace(aws_msk_cluster.this.arn, ":cluster/", ":group/")
}

output "bootstrap_brokers" {
  description = "Where clients begin, by IAM over TLS."
  value       = aws_msk_cluster.this.bootstrap_brokers_sasl_iam
}
