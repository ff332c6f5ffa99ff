# SPDX-License-Identifier: Apache-2.0
"""Floor 3: key services, one package or module each. Each implements `lacre.keys.ports.KeyService`."""
