# SPDX-License-Identifier: Apache-2.0
"""Floor 2: evidence. The events, and the recorder that takes them without slowing a look."""
