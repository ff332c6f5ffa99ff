# SPDX-License-Identifier: Apache-2.0
"""
Floor 2: keys. Their hierarchy and states, the two ports they come through (the key store and
the key service), the resolver that makes them usable, and their provisioning and rotation.
"""
