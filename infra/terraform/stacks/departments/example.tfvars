region      = "us-east-1"
environment = "production"

vpc_id                      = "vpc-0123456789abcdef0"
private_subnet_ids          = ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1", "subnet-0123456789abcdef2"]
endpoints_security_group_id = "sg-0123456789abcdef0"
s3_prefix_list_id           = "pl-63a5400a"

key_administrator_role_arn = "arn:aws:iam::123456789012:role/governance"
deploy_role_arn            = "arn:aws:iam::123456789012:role/deploy"
security_auditor_role_arn  = "arn:aws:iam::123456789012:role/security-auditor"

images = {
  consumer  = "123456789012.dkr.ecr.us-east-1.amazonaws.com/departments/production/consumer@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  generator = "123456789012.dkr.ecr.us-east-1.amazonaws.com/departments/production/generator@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  producer  = "123456789012.dkr.ecr.us-east-1.amazonaws.com/departments/production/producer@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
}
