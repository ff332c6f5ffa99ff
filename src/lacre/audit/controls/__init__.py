# SPDX-License-Identifier: Apache-2.0
"""Controls: what is measured of a deployment, how it is scored, and of what it is evidence. Pure."""
