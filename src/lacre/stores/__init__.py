# SPDX-License-Identifier: Apache-2.0
"""Floor 3: where wrapped keys and column states are kept, one file per kind of store."""
