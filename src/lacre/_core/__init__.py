# SPDX-License-Identifier: Apache-2.0
"""
Floor 1: bytes. The formats and derivations of ``spec/``.

No I/O, no clock, no randomness, no logging: salts are arguments. So vectors are exact, and a
reviewer reads each module beside its section of the specification.
"""
