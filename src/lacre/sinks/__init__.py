# SPDX-License-Identifier: Apache-2.0
"""Floor 3: where evidence goes, one file per kind of sink."""
