# SPDX-License-Identifier: Apache-2.0
"""Places for checkpoints outside the log's database: a file, another database, S3. See `lacre.audit.anchors`."""
