# SPDX-License-Identifier: Apache-2.0
"""
What a key service would answer, told from its policies alone: no server, no account, no clock.

`aws` decides as the documentation of IAM and AWS KMS says. What a document holds that it does not know
is an error that names it: it never guesses.
"""
