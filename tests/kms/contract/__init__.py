# SPDX-License-Identifier: Apache-2.0
"""One contract suite that every key service passes. `rig` says what a rig is, `matrix` what which one cannot tell."""
