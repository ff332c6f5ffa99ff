provider "aws" {
  region = var.region
}

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}

locals {
  name = "ship-chandlery-${var.environment}"
  arn  = "arn:${data.aws_partition.current.partition}"
  here = "${var.region}:${data.aws_caller_identity.current.account_id}"
  tags = { Application = "ship-chandlery", Environment = var.environment, ManagedBy = "terraform" }

  documents = "${local.name}-documents-${data.aws_caller_identity.current.account_id}"
  sessions  = "${local.name}-sessions"
  log_groups = {
    for name in concat(keys(local.services), ["flows"]) : name => "/ship-chandlery/${var.environment}/${name}"
  }
}

resource "aws_ecs_cluster" "this" {
  name = local.name
  tags = local.tags

  setting {
    name  = "containerInsights"
    value = "enabled"
  }
}
