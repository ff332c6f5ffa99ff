mock_provider "aws" {
  source          = "./mocks"
  override_during = plan
}

run "departments_each_role_does_one_thing" {
  command = plan

  module {
    source = "./stacks/departments"
  }

  variables {
    region                      = "eu-central-1"
    environment                 = "prod"
    vpc_id                      = "vpc-0123456789abcdef0"
    private_subnet_ids          = ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1", "subnet-0123456789abcdef2"]
    endpoints_security_group_id = "sg-0123456789abcdef0"
    s3_prefix_list_id           = "pl-63a5400a"
    key_administrator_role_arn  = "arn:aws:iam::123456789012:role/governance"
    deploy_role_arn             = "arn:aws:iam::123456789012:role/deploy"
    security_auditor_role_arn   = "arn:aws:iam::123456789012:role/security-auditor"
    images = {
      consumer  = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/consumer@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
      generator = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/generator@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
      producer  = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/producer@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
    }
  }

  assert {
    condition = { for statement in jsondecode(output.role_policies.producer).Statement : statement.Sid => concat(statement.Action, statement.Resource) } == {
      Receive = ["sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:ReceiveMessage", "arn:aws:sqs:eu-central-1:123456789012:departments-prod"]
      Connect = ["kafka-cluster:Connect", "kafka-cluster:WriteDataIdempotently", "arn:aws:kafka:eu-central-1:123456789012:cluster/departments/0f9f3a4e-0000-4000-8000-000000000001-1"]
      Write   = ["kafka-cluster:DescribeTopic", "kafka-cluster:WriteData", "arn:aws:kafka:eu-central-1:123456789012:topic/departments/0f9f3a4e-0000-4000-8000-000000000001-1/departments"]
    }
    error_message = "the producer receives and writes, and reads nothing of the topic"
  }

  assert {
    condition = { for statement in jsondecode(output.role_policies.finance).Statement : statement.Sid => concat(statement.Action, statement.Resource) } == {
      Connect  = ["kafka-cluster:Connect", "arn:aws:kafka:eu-central-1:123456789012:cluster/departments/0f9f3a4e-0000-4000-8000-000000000001-1"]
      Read     = ["kafka-cluster:DescribeTopic", "kafka-cluster:ReadData", "arn:aws:kafka:eu-central-1:123456789012:topic/departments/0f9f3a4e-0000-4000-8000-000000000001-1/departments"]
      OwnGroup = ["kafka-cluster:AlterGroup", "kafka-cluster:DescribeGroup", "arn:aws:kafka:eu-central-1:123456789012:group/departments/0f9f3a4e-0000-4000-8000-000000000001-1/departments-prod-finance"]
    }
    error_message = "a department reads the topic in a group of its own, and writes nothing"
  }

  assert {
    condition     = length(distinct(values(output.role_arns))) == 4
    error_message = "four programs are four roles"
  }
}
