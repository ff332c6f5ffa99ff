# SPDX-License-Identifier: Apache-2.0
"""Detection: rules over the entries of the evidence log, as data, and what evaluates them. Does no I/O."""
