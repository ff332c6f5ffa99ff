region      = "ap-south-1"
environment = "production"

vpc_id                    = "vpc-0123456789abcdef0"
private_subnet_ids        = ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"]
public_subnet_ids         = ["subnet-0123456789abcdef2", "subnet-0123456789abcdef3"]
cloudfront_prefix_list_id = "pl-9aa247f3"

key_administrator_role_arn = "arn:aws:iam::123456789012:role/key-administrator"
deploy_role_arn            = "arn:aws:iam::123456789012:role/deploy"
security_auditor_role_arn  = "arn:aws:iam::123456789012:role/security-auditor"
mint_role_arn              = "arn:aws:iam::123456789012:role/mint"
rotation_lambda_arn        = "arn:aws:lambda:ap-south-1:123456789012:function:rotate-secrets"
rotation_role_arn          = "arn:aws:iam::123456789012:role/rotate-secrets"

image          = "123456789012.dkr.ecr.ap-south-1.amazonaws.com/ship-chandlery@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
repository_arn = "arn:aws:ecr:ap-south-1:123456789012:repository/ship-chandlery"

domain_name                   = "chandlery.example"
origin_domain_name            = "origin.chandlery.example"
distribution_certificate_arn  = "arn:aws:acm:us-east-1:123456789012:certificate/01234567-89ab-4def-8123-456789abcdef"
load_balancer_certificate_arn = "arn:aws:acm:ap-south-1:123456789012:certificate/01234567-89ab-4def-8123-456789abcdef"

alert_email_addresses = ["security@chandlery.example"]
