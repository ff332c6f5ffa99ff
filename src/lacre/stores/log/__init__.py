# SPDX-License-Identifier: Apache-2.0
"""The evidence log in a SQL database: inbox, sequencer, tree, checkpoints, and what reads them."""
