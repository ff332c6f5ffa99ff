module "generator" {
  source = "../../modules/generator-lambda"

  name           = "${local.name}-generator"
  image          = var.images.generator
  queue_arn      = module.queue.arn
  queue_url      = module.queue.url
  log_group_name = module.log_groups.names[local.log_groups["generator"]]
  schedule       = var.schedule
  tags           = local.tags
}

module "queue" {
  source = "../../modules/sqs-queue"

  name               = local.name
  kms_key_arn        = module.store_keys["queue"].arn
  sender_role_arns   = [module.generator.role_arn]
  receiver_role_arns = [module.producer.role_arn]
  tags               = local.tags
}

module "kafka" {
  source = "../../modules/msk"

  name               = local.name
  kms_key_arn        = module.store_keys["topic"].arn
  subnet_ids         = var.private_subnet_ids
  security_group_ids = [aws_security_group.this["brokers"].id]
  log_group_name     = module.log_groups.names[local.log_groups["brokers"]]
  tags               = local.tags
}

resource "aws_ecs_cluster" "this" {
  name = local.name
  tags = local.tags

  setting {
    name  = "containerInsights"
    value = "enabled"
  }
}

module "producer" {
  source = "../../modules/ecs-service"

  name               = "${local.name}-producer"
  cluster_arn        = aws_ecs_cluster.this.arn
  image              = var.images.producer
  repository_arn     = module.images.arns[local.repositories["producer"]]
  log_group_name     = module.log_groups.names[local.log_groups["producer"]]
  subnet_ids         = var.private_subnet_ids
  security_group_ids = [aws_security_group.this["services"].id]
  tags               = local.tags

  environment = {
    BOOTSTRAP_BROKERS = module.kafka.bootstrap_brokers
    QUEUE_URL         = module.queue.url
    TOPIC             = var.topic
  }

  statements = [
    {
      Sid      = "Receive"
      Action   = ["sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:ReceiveMessage"]
      Resource = [module.queue.arn]
    },
    {
      Sid      = "Connect"
      Action   = ["kafka-cluster:Connect", "kafka-cluster:WriteDataIdempotently"]
      Resource = [module.kafka.arn]
    },
    {
      Sid      = "Write"
      Action   = ["kafka-cluster:DescribeTopic", "kafka-cluster:WriteData"]
      Resource = ["${module.kafka.topics}/${var.topic}"]
    },
  ]
}

module "consumers" {
  source   = "../../modules/ecs-service"
  for_each = local.consumers

  name               = each.value
  cluster_arn        = aws_ecs_cluster.this.arn
  image              = var.images.consumer
  repository_arn     = module.images.arns[local.repositories["consumer"]]
  log_group_name     = module.log_groups.names[local.log_groups[each.key]]
  subnet_ids         = var.private_subnet_ids
  security_group_ids = [aws_security_group.this["services"].id]
  tags               = local.tags

  environment = {
    BOOTSTRAP_BROKERS = module.kafka.bootstrap_brokers
    DEPARTMENT        = each.key
    TOPIC             = var.topic
  }

  statements = [
    {
      Sid      = "Connect"
      Action   = ["kafka-cluster:Connect"]
      Resource = [module.kafka.arn]
    },
    {
      Sid      = "Read"
      Action   = ["kafka-cluster:DescribeTopic", "kafka-cluster:ReadData"]
      Resource = ["${module.kafka.topics}/${var.topic}"]
    },
    {
      Sid      = "OwnGroup"
      Action   = ["kafka-cluster:AlterGroup", "kafka-cluster:DescribeGroup"]
      Resource = ["${module.kafka.groups}/${each.value}"]
    },
  ]
}
