mock_provider "aws" {
  source          = "./mocks"
  override_during = plan
}

run "transport_a_load_balancer_refuses_what_takes_less_than_tls_1_2" {
  command = plan

  module {
    source = "./modules/load-balancer"
  }

  variables {
    name               = "shop"
    vpc_id             = "vpc-0123456789abcdef0"
    subnet_ids         = ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"]
    security_group_ids = ["sg-0123456789abcdef0"]
    certificate_arn    = "arn:aws:acm:eu-central-1:123456789012:certificate/01234567-89ab-4def-8123-456789abcdef"
    access_log_bucket  = "logs"
    ssl_policy         = "ELBSecurityPolicy-TLS13-1-1-2021-06"
  }

  expect_failures = [var.ssl_policy]
}

run "transport_a_distribution_refuses_what_takes_less_than_tls_1_2" {
  command = plan

  module {
    source = "./modules/distribution"
  }

  variables {
    name                     = "shop"
    domain_names             = []
    certificate_arn          = "arn:aws:acm:eu-central-1:123456789012:certificate/01234567-89ab-4def-8123-456789abcdef"
    service_domain_name      = "origin.example"
    media_domain_name        = "media.s3.eu-central-1.amazonaws.com"
    minimum_protocol_version = "TLSv1.1_2016"
  }

  expect_failures = [var.domain_names, var.certificate_arn, var.minimum_protocol_version]
}

run "transport_a_service_refuses_tags_wildcards_and_rights_on_keys" {
  command = plan

  module {
    source = "./modules/ecs-service"
  }

  variables {
    name               = "producer"
    cluster_arn        = "arn:aws:ecs:eu-central-1:123456789012:cluster/shop"
    image              = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/producer:latest"
    repository_arn     = "arn:aws:ecr:eu-central-1:123456789012:repository/producer"
    log_group_name     = "/shop/producer"
    subnet_ids         = ["subnet-0123456789abcdef0"]
    security_group_ids = ["sg-0123456789abcdef0"]
    statements = [
      { Sid = "All", Action = ["sqs:*"], Resource = ["*"] },
      { Sid = "Key", Action = ["kms:Decrypt"], Resource = ["arn:aws:kms:eu-central-1:123456789012:key/1"] },
    ]
  }

  expect_failures = [var.image, var.statements]
}
