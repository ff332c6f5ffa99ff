# SPDX-License-Identifier: Apache-2.0
"""What a policy may say and should not: found before it is loaded, each with what to do."""
