# SPDX-License-Identifier: Apache-2.0
"""Above floor 4: a key store's way back. Dumps of it, restores, and the drill that proves both."""
