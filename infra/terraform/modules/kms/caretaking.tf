# Statements of both keys: who looks after a key, and that looking after it is not using it.

locals {
  using = [
    "kms:CreateGrant",
    "kms:Decrypt",
    "kms:Encrypt",
    "kms:GenerateDataKey",
    "kms:GenerateDataKeyWithoutPlaintext",
    "kms:ReEncryptFrom",
    "kms:ReEncryptTo",
  ]

  # Not earlier than the waiting time allows. The pipeline may, too: `terraform destroy` schedules a deletion.
  after_the_window = {
    NumericGreaterThanEquals = { "kms:ScheduleKeyDeletionPendingWindowInDays" = tostring(var.deletion_window_days) }
  }

  caretaking_statements = concat(
    [
      {
        # The account itself: so that a key whose roles are gone can be given new ones, by root and by nobody else.
        # Without the condition the statement would let every policy of IAM decide.
        Sid       = "BreakGlass"
        Effect    = "Allow"
        Principal = { AWS = local.root }
        Action    = ["kms:DescribeKey", "kms:GetKeyPolicy", "kms:PutKeyPolicy"]
        Resource  = "*"
        Condition = { ArnEquals = { "aws:PrincipalArn" = local.root } }
      },
      {
        Sid       = "Deploy"
        Effect    = "Allow"
        Principal = { AWS = local.deployers }
        Action = [
          "kms:CreateAlias",
          "kms:DeleteAlias",
          "kms:DescribeKey",
          "kms:EnableKeyRotation",
          "kms:GetKeyPolicy",
          "kms:GetKeyRotationStatus",
          "kms:ListResourceTags",
          "kms:PutKeyPolicy",
          "kms:TagResource",
          "kms:UntagResource",
          "kms:UpdateAlias",
          "kms:UpdateKeyDescription",
        ]
        Resource = "*"
      },
    ],
    [
      for administer in [{
        Sid       = "Administer"
        Effect    = "Allow"
        Principal = { AWS = local.administrators }
        Action = [
          "kms:CancelKeyDeletion",
          "kms:DescribeKey",
          "kms:DisableKey",
          "kms:EnableKey",
          "kms:EnableKeyRotation",
          "kms:GetKeyPolicy",
          "kms:GetKeyRotationStatus",
          "kms:ListGrants",
          "kms:ListKeyRotations",
          "kms:ListResourceTags",
          "kms:RevokeGrant",
          "kms:RotateKeyOnDemand",
        ]
        Resource = "*"
      }] : administer if length(local.administrators) > 0
    ],
    [
      {
        Sid       = "DeleteAfterTheWindow"
        Effect    = "Allow"
        Principal = { AWS = local.caretakers }
        Action    = "kms:ScheduleKeyDeletion"
        Resource  = "*"
        Condition = local.after_the_window
      },
      {
        # A denial in a key policy also stands against grants.
        Sid       = "CaretakersDoNotUse"
        Effect    = "Deny"
        Principal = { AWS = local.caretakers }
        Action    = local.using
        Resource  = "*"
      },
    ],
    [
      for look in [{
        # What KMS lets another account do at all, of looking.
        Sid       = "SecurityAccountLooks"
        Effect    = "Allow"
        Principal = { AWS = "arn:${local.partition}:iam::${coalesce(var.security_account_id, "000000000000")}:root" }
        Action    = ["kms:DescribeKey", "kms:GetKeyRotationStatus", "kms:ListGrants"]
        Resource  = "*"
        Condition = { StringEquals = { "kms:CallerAccount" = coalesce(var.security_account_id, "000000000000") } }
      }] : look if var.security_account_id != null
    ],
  )
}
