# SPDX-License-Identifier: Apache-2.0
"""lacre keeps an application's sensitive data encrypted wherever it goes. The public face: names only."""
