data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  here = "${data.aws_region.current.name}:${data.aws_caller_identity.current.account_id}"
}

resource "aws_iam_role" "this" {
  name = "${var.name}-flow-logs"
  tags = var.tags

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "vpc-flow-logs.amazonaws.com" }
      Action    = "sts:AssumeRole"
      Condition = {
        StringEquals = { "aws:SourceAccount" = data.aws_caller_identity.current.account_id }
        ArnLike      = { "aws:SourceArn" = "arn:${data.aws_partition.current.partition}:ec2:${local.here}:vpc-flow-log/*" }
      }
    }]
  })
}

resource "aws_iam_role_policy" "this" {
  name = "write"
  role = aws_iam_role.this.name

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect   = "Allow"
      Action   = ["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"]
      Resource = ["arn:${data.aws_partition.current.partition}:logs:${local.here}:log-group:${var.log_group_name}:*"]
    }]
  })
}

resource "aws_flow_log" "this" {
  vpc_id               = var.vpc_id
  traffic_type         = "ALL"
  log_destination_type = "cloud-watch-logs"
  log_destination      = var.log_group_arn
  iam_role_arn         = aws_iam_role.this.arn
  tags                 = var.tags
}
