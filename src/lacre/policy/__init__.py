# SPDX-License-Identifier: Apache-2.0
"""Floor 2: the policy. What `lacre.toml` says, and what follows from it for one access."""
