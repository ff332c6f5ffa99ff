# SPDX-License-Identifier: Apache-2.0
"""
Floor 2: a field's scheme. What type it has, how it is encoded, normalised, indexed and masked,
and the object that encrypts and decrypts it under the policy.
"""
