# The data key's statements for those who use it: applications directly, under their encryption context; and AWS services
# in a role's name, under the context that the service itself sends. No statement is for both.

locals {
  # `app` and `env` by value, nothing beside the known pairs.
  in_context = {
    StringEquals = {
      "kms:EncryptionContext:app" = var.app
      "kms:EncryptionContext:env" = var.environment
    }
    "ForAllValues:StringEquals" = { "kms:EncryptionContextKeys" = sort(distinct(var.context_pairs)) }
  }

  rights = [
    {
      name       = "Decrypt"
      principals = local.users
      action     = "kms:Decrypt"
      null       = {}
    },
    {
      # Not for keys of the key store: who knows a key that is planted there could read what is written later.
      name       = "Produce"
      principals = local.producers
      action     = "kms:GenerateDataKey"
      null       = { "kms:EncryptionContext:lacre-key" = "true" }
    },
    {
      name       = "Mint"
      principals = local.provisioners
      action     = "kms:GenerateDataKeyWithoutPlaintext"
      null       = {}
    },
  ]

  # Roles of one right, in groups that may name the same services: one statement each. A role whose services are not
  # given must name one: `Null` refuses a call that leaves the pair out.
  application_statements = flatten([
    for right in local.rights : [
      for services in distinct([for arn in right.principals : join(",", sort(lookup(var.role_services, arn, [])))]) : {
        Sid       = "${right.name}${replace(title(replace(services, "/[^A-Za-z0-9]+/", " ")), " ", "")}"
        Effect    = "Allow"
        Principal = { AWS = [for arn in right.principals : arn if join(",", sort(lookup(var.role_services, arn, []))) == services] }
        Action    = right.action
        Resource  = "*"
        Condition = {
          for operator, tests in merge(local.in_context, {
            StringEquals = merge(
              local.in_context.StringEquals,
              { for names in [split(",", services)] : "kms:EncryptionContext:service" => names if services != "" },
            )
            Null = merge(right.null, { for pair in ["service"] : "kms:EncryptionContext:${pair}" => "false" if services == "" })
          }) : operator => tests if length(tests) > 0
        }
      }
    ]
  ])

  # Even where another statement, or a grant, would allow. A service acts under its own context: `kms:ViaService` is
  # there only then. `StringNotEquals` holds where the pair is missing, too.
  encrypting = [for action in local.using : action if action != "kms:CreateGrant"]
  direct     = { "kms:ViaService" = "true" }
  without_pair = [
    { name = "App", condition = { StringNotEquals = { "kms:EncryptionContext:app" = var.app }, Null = local.direct } },
    { name = "Env", condition = { StringNotEquals = { "kms:EncryptionContext:env" = var.environment }, Null = local.direct } },
    { name = "Service", condition = { Null = merge(local.direct, { "kms:EncryptionContext:service" = "true" }) } },
  ]
  denial_statements = [
    for pair in local.without_pair : {
      Sid       = "DenyWithout${pair.name}"
      Effect    = "Deny"
      Principal = { AWS = local.applications }
      Action    = local.encrypting
      Resource  = "*"
      Condition = pair.condition
    } if length(local.applications) > 0
  ]

  buckets  = length(var.s3_bucket_arns) > 0 ? sort(distinct(var.s3_bucket_arns)) : ["arn:${local.partition}:s3:::*"]
  objects  = flatten([for arn in local.buckets : endswith(arn, "*") ? [arn] : [arn, "${arn}/*"]])
  our_call = { "kms:CallerAccount" = local.account }
  keepers  = sort(distinct(concat(local.users, local.storage)))

  storage_statements = [
    {
      # S3's context is the object's ARN, or the bucket's where it has a bucket key.
      Sid       = "StorageS3"
      Effect    = "Allow"
      Principal = { AWS = local.users }
      Action    = ["kms:Decrypt", "kms:GenerateDataKey"]
      Resource  = "*"
      Condition = {
        StringEquals = merge(local.our_call, { "kms:ViaService" = "s3.${local.region}.${local.domain}" })
        StringLike   = { "kms:EncryptionContext:aws:s3:arn" = local.objects }
      }
    },
    {
      # What DynamoDB asks for, in the name of who makes or uses a table. `Encrypt` and `ReEncrypt` are its own calls,
      # for table keys under its own context: nobody can make them directly.
      Sid       = "StorageDynamoDB"
      Effect    = "Allow"
      Principal = { AWS = local.keepers }
      Action = [
        "kms:Decrypt",
        "kms:Encrypt",
        "kms:GenerateDataKey",
        "kms:GenerateDataKeyWithoutPlaintext",
        "kms:ReEncryptFrom",
        "kms:ReEncryptTo",
      ]
      Resource = "*"
      Condition = {
        StringEquals = merge(local.our_call, {
          "kms:EncryptionContext:aws:dynamodb:subscriberId" = local.account
          "kms:ViaService"                                  = "dynamodb.${local.region}.${local.domain}"
        })
      }
    },
    {
      Sid       = "StorageSecretsManager"
      Effect    = "Allow"
      Principal = { AWS = local.keepers }
      Action    = ["kms:Decrypt", "kms:GenerateDataKey"]
      Resource  = "*"
      Condition = {
        StringEquals = merge(local.our_call, { "kms:ViaService" = "secretsmanager.${local.region}.${local.domain}" })
        StringLike   = { "kms:EncryptionContext:SecretARN" = "arn:${local.partition}:secretsmanager:${local.region}:${local.account}:secret:*" }
      }
    },
    {
      Sid       = "StorageVolumes"
      Effect    = "Allow"
      Principal = { AWS = local.storage }
      Action    = ["kms:Decrypt", "kms:GenerateDataKeyWithoutPlaintext"]
      Resource  = "*"
      Condition = {
        StringEquals = merge(local.our_call, { "kms:ViaService" = "ec2.${local.region}.${local.domain}" })
        Null         = { "kms:EncryptionContext:aws:ebs:id" = "false" }
      }
    },
    {
      # EBS and DynamoDB keep working through grants that they take themselves; nobody gives one to somebody.
      Sid       = "StorageGrants"
      Effect    = "Allow"
      Principal = { AWS = local.storage }
      Action    = "kms:CreateGrant"
      Resource  = "*"
      Condition = {
        Bool = { "kms:GrantIsForAWSResource" = "true" }
        StringEquals = merge(local.our_call, {
          "kms:ViaService" = ["dynamodb.${local.region}.${local.domain}", "ec2.${local.region}.${local.domain}"]
        })
      }
    },
    {
      Sid       = "Describe"
      Effect    = "Allow"
      Principal = { AWS = sort(distinct(concat(local.applications, local.storage))) }
      Action    = "kms:DescribeKey"
      Resource  = "*"
    },
  ]

  log_groups_statement = {
    # The service of this region, for log groups of this account: another account's, named by somebody there, is refused.
    Sid       = "LogGroups"
    Effect    = "Allow"
    Principal = { Service = "logs.${local.region}.${local.domain}" }
    Action    = ["kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey", "kms:ReEncryptFrom", "kms:ReEncryptTo"]
    Resource  = "*"
    Condition = {
      ArnLike = { "kms:EncryptionContext:aws:logs:arn" = "arn:${local.partition}:logs:${local.region}:${local.account}:log-group:*" }
    }
  }

  data_statements = concat(
    local.caretaking_statements,
    local.application_statements,
    local.denial_statements,
    [for statement in local.storage_statements : statement if length(statement.Principal.AWS) > 0],
    [local.log_groups_statement],
  )
}
