# What the tests' provider answers instead of AWS. Account and region are the ones the tests write out.

mock_data "aws_caller_identity" {
  defaults = {
    account_id = "123456789012"
    arn        = "arn:aws:iam::123456789012:role/pipeline"
    user_id    = "AROAEXAMPLE"
  }
}

mock_data "aws_region" {
  defaults = {
    name = "eu-central-1"
    id   = "eu-central-1"
  }
}

mock_data "aws_partition" {
  defaults = {
    partition  = "aws"
    dns_suffix = "amazonaws.com"
  }
}

mock_data "aws_iam_session_context" {
  defaults = {
    issuer_arn = "arn:aws:iam::123456789012:role/pipeline"
  }
}

mock_resource "aws_kms_key" {
  defaults = {
    arn    = "arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-4000-8000-000000000001"
    key_id = "00000000-0000-4000-8000-000000000001"
  }
}

mock_resource "aws_msk_cluster" {
  defaults = {
    arn = "arn:aws:kafka:eu-central-1:123456789012:cluster/departments/0f9f3a4e-0000-4000-8000-000000000001-1"
  }
}
