# A service for each credential: what one class of data can be opened by is one role.
locals {
  services = {
    api        = { reads = true }
    finance    = { reads = false }
    compliance = { reads = false }
    payments   = { reads = false }
  }

  # Every service is a user of the database by its own name, with a token of its role.
  connect = { for name in keys(local.services) : name => {
    Sid      = "SignInToDatabase"
    Action   = ["rds-db:connect"]
    Resource = ["${local.arn}:rds-db:${local.here}:dbuser:${module.database.resource_id}/${name}"]
  } }
  read_secrets = { for name in keys(local.services) : name => {
    Sid      = "ReadSecrets"
    Action   = ["secretsmanager:GetSecretValue"]
    Resource = [for path, secret in local.secrets : "${local.arn}:secretsmanager:${local.here}:secret:/ship-chandlery/${var.environment}/${path}-??????" if contains(secret.readers, name)]
  } }
  of_the_api = [
    {
      Sid      = "UseDocuments"
      Action   = ["s3:GetObject", "s3:PutObject"]
      Resource = ["${module.documents.arn}/*"]
    },
    {
      Sid      = "UseSessions"
      Action   = ["dynamodb:DeleteItem", "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"]
      Resource = [module.sessions.arn]
    },
    {
      Sid      = "SignInToCache"
      Action   = ["elasticache:Connect"]
      Resource = [module.cache.arn, module.cache.user_arn]
    },
  ]
}

module "services" {
  source   = "../../modules/ecs-service"
  for_each = local.services

  name               = "${local.name}-${each.key}"
  cluster_arn        = aws_ecs_cluster.this.arn
  image              = var.image
  repository_arn     = var.repository_arn
  log_group_name     = module.log_groups.names[local.log_groups[each.key]]
  subnet_ids         = var.private_subnet_ids
  security_group_ids = [aws_security_group.this["services"].id]
  statements         = concat([local.connect[each.key], local.read_secrets[each.key]], each.value.reads ? local.of_the_api : [])
  environment        = { SERVICE = each.key, ENVIRONMENT = var.environment }
  port               = each.value.reads ? 8443 : null
  target_group_arn   = each.value.reads ? module.load_balancer.target_group_arn : null
  tags               = local.tags
}
