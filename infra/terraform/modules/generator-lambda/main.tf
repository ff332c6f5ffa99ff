data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  account   = data.aws_caller_identity.current.account_id
  partition = data.aws_partition.current.partition
  here      = "${data.aws_region.current.name}:${local.account}"
}

resource "aws_iam_role" "this" {
  name = var.name
  tags = var.tags

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "lambda.amazonaws.com" }
      Action    = "sts:AssumeRole"
    }]
  })
}

# It sends, and writes its log. It neither receives nor uses a key of any department.
resource "aws_iam_role_policy" "this" {
  name = "send"
  role = aws_iam_role.this.name

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "Send"
        Effect   = "Allow"
        Action   = "sqs:SendMessage"
        Resource = [var.queue_arn]
      },
      {
        Sid      = "Log"
        Effect   = "Allow"
        Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
        Resource = ["arn:${local.partition}:logs:${local.here}:log-group:${var.log_group_name}:*"]
      },
    ]
  })
}

resource "aws_lambda_function" "this" {
  #checkov:skip=CKV_AWS_116:It is called by a clock and makes new data each time: a call that failed is not made up for.
  #checkov:skip=CKV_AWS_117:It calls SQS only, by TLS, and reaches nothing in the network.
  #checkov:skip=CKV_AWS_272:The image is named by its digest, in a repository whose tags cannot move.
  #checkov:skip=CKV_AWS_50:Traces of calls to SQS tell nothing that its metrics do not.
  #checkov:skip=CKV_AWS_173:The queue's address is no secret.
  function_name                  = var.name
  role                           = aws_iam_role.this.arn
  package_type                   = "Image"
  image_uri                      = var.image
  architectures                  = ["arm64"]
  memory_size                    = 256
  timeout                        = 30
  reserved_concurrent_executions = 1
  tags                           = var.tags

  environment {
    variables = { QUEUE_URL = var.queue_url }
  }

  logging_config {
    log_format = "JSON"
    log_group  = var.log_group_name
  }
}

resource "aws_cloudwatch_event_rule" "this" {
  count = var.schedule == null ? 0 : 1

  name                = var.name
  description         = "Calls ${var.name}."
  schedule_expression = var.schedule
  tags                = var.tags
}

resource "aws_cloudwatch_event_target" "this" {
  count = var.schedule == null ? 0 : 1

  rule = aws_cloudwatch_event_rule.this[0].name
  arn  = aws_lambda_function.this.arn
}

resource "aws_lambda_permission" "this" {
  count = var.schedule == null ? 0 : 1

  statement_id   = "clock"
  action         = "lambda:InvokeFunction"
  function_name  = aws_lambda_function.this.function_name
  principal      = "events.amazonaws.com"
  source_arn     = "arn:${local.partition}:events:${local.here}:rule/${aws_cloudwatch_event_rule.this[0].name}"
  source_account = local.account
}
