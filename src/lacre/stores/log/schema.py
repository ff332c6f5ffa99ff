# SPDX-License-Identifier: Apache-2.0
"""
The tables of the evidence log, in a database or schema of its own.

`LEAF` is the log: its `entry` is what a leaf of the tree is the hash of, and every other column of
it is drawn from that entry, for queries; the verifier compares them. Whatever else is here can be
made again from the leaves and the signed checkpoints. Implements ``spec/evidence-log.md``,
section 3. Holds no statement.

A shard is a month, as the number 202611, of a tree of its own. Times are microseconds since 1970.
"""

import sqlalchemy as sa

__all__ = [
    "ALERT",
    "CHANNEL",
    "CHECKPOINT",
    "CURSOR",
    "HONEYTOKEN",
    "INBOX",
    "LEAF",
    "LOG_META",
    "NOTABLE",
    "OUTBOX",
    "SEQUENCER",
    "SHARD",
    "SPENT",
    "TALLY",
    "TILE",
    "TOUCHED",
    "VERSION",
    "metadata",
]

VERSION = 1

metadata = sa.MetaData()

# Numbers themselves on SQLite, where only an INTEGER PRIMARY KEY counts by itself.
_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

# Columns whose index leaves out a value that is no question, and what a statement says to use it.
NOTABLE = {
    "status": "status <> 'compliant'",
    "class": "class <> ''",
    "place": "place <> ''",
    "correlation": "correlation <> ''",
}

# Whose log this is, and the version of these tables.
LOG_META = sa.Table(
    "lacre_log",
    metadata,
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("value", sa.String(255), nullable=False),
)

# Entries that wait for the sequencer. `id` makes an entry count once, however often it is handed over.
INBOX = sa.Table(
    "lacre_inbox",
    metadata,
    sa.Column("position", _BIG, primary_key=True, autoincrement=True),
    sa.Column("id", sa.LargeBinary(16), nullable=False, unique=True),
    sa.Column("entry", sa.LargeBinary, nullable=False),
)

# The same in an application's own database, written in its transactions. Not of this schema.
OUTBOX = sa.Table(
    "lacre_outbox",
    sa.MetaData(),
    sa.Column("position", _BIG, primary_key=True, autoincrement=True),
    sa.Column("id", sa.LargeBinary(16), nullable=False, unique=True),
    sa.Column("entry", sa.LargeBinary, nullable=False),
)

LEAF = sa.Table(
    "lacre_leaf",
    metadata,
    sa.Column("shard", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),  # from 0, no gap
    sa.Column("id", sa.LargeBinary(16), nullable=False, unique=True),
    sa.Column("sequenced", sa.BigInteger, nullable=False),  # never before the leaf before it
    sa.Column("time", sa.BigInteger, nullable=False),
    sa.Column("action", sa.String(32), nullable=False),
    sa.Column("step", sa.String(32), nullable=False, server_default=""),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("principal", sa.Text, nullable=False),
    sa.Column("tenant", sa.Text, nullable=False),
    sa.Column("class", sa.String(64), nullable=False, server_default=""),
    sa.Column("place", sa.Text, nullable=False, server_default=""),  # store.table.column
    sa.Column("correlation", sa.Text, nullable=False, server_default=""),
    sa.Column("count", sa.Integer, nullable=False, server_default="0"),
    sa.Column("hash", sa.LargeBinary(32), nullable=False),
    sa.Column("entry", sa.LargeBinary, nullable=False),
    sa.Index("lacre_leaf_time", "time"),
    sa.Index("lacre_leaf_principal", "principal", "time"),
    sa.Index("lacre_leaf_action", "action", "time"),
    sa.Index("lacre_leaf_tenant", "tenant", "time"),
    # Of what few leaves have, those: NOTABLE says which values of a column that is.
    *(
        sa.Index(
            f"lacre_leaf_{name}",
            name,
            "time",
            postgresql_where=sa.text(where),
            sqlite_where=sa.text(where),
        )
        for name, where in NOTABLE.items()
    ),
)

# Which leaves are about a row or a subject: one line for each id or pseudonym that an entry names.
TOUCHED = sa.Table(
    "lacre_touched",
    metadata,
    sa.Column("resource", sa.String(64), primary_key=True),
    sa.Column("shard", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)

# Hashes inside the tree, 256 to a tile: those of level L are of 256**L leaves each. Level 0 is LEAF itself.
TILE = sa.Table(
    "lacre_tile",
    metadata,
    sa.Column("shard", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("level", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("index", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("hashes", sa.LargeBinary, nullable=False),
)

# Signed tree heads, as C2SP notes. The newest of a shard says how far it is signed.
CHECKPOINT = sa.Table(
    "lacre_checkpoint",
    metadata,
    sa.Column("shard", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("size", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("time", sa.BigInteger, nullable=False),
    sa.Column("root", sa.LargeBinary(32), nullable=False),
    sa.Column("note", sa.Text, nullable=False),
)

# The life of a shard: open, closed (its last checkpoint is final) or purged; and whether it is on legal hold.
SHARD = sa.Table(
    "lacre_shard",
    metadata,
    sa.Column("shard", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("hold", sa.String(255), nullable=True),
)

# One row: who sequences. A higher epoch fences off whoever believes to.
SEQUENCER = sa.Table(
    "lacre_sequencer",
    metadata,
    sa.Column("one", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("holder", sa.String(64), nullable=False),
    sa.Column("until", sa.BigInteger, nullable=False),
)

# Counts by the hour, kept by the sequencer, for pages and reports that would count for long.
TALLY = sa.Table(
    "lacre_tally",
    metadata,
    sa.Column("hour", sa.BigInteger, primary_key=True, autoincrement=False),  # its beginning
    sa.Column("principal", sa.Text, primary_key=True),
    sa.Column("action", sa.String(32), primary_key=True),
    sa.Column("status", sa.String(16), primary_key=True),
    sa.Column("class", sa.String(64), primary_key=True),
    sa.Column("place", sa.Text, primary_key=True),
    sa.Column("purpose", sa.Text, primary_key=True),
    sa.Column("events", sa.BigInteger, nullable=False),
    sa.Column("count", sa.BigInteger, nullable=False),
)

# What rules of detection found. Never written back to leaves.
ALERT = sa.Table(
    "lacre_alert",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("rule", sa.String(64), nullable=False),
    sa.Column("severity", sa.String(16), nullable=False),
    sa.Column("fingerprint", sa.String(64), nullable=False),  # what is alike is one alert
    sa.Column("principal", sa.Text, nullable=False),
    sa.Column("first", sa.BigInteger, nullable=False),  # times of the evidence
    sa.Column("last", sa.BigInteger, nullable=False),
    sa.Column("raised", sa.BigInteger, nullable=False),
    sa.Column("times", sa.Integer, nullable=False),
    sa.Column("summary", sa.Text, nullable=False),
    sa.Column("facts", sa.Text, nullable=False),  # JSON: threshold, found, evidence [shard, seq]
    sa.Column("state", sa.String(16), nullable=False),  # open, acknowledged
    sa.Column("acknowledged", sa.BigInteger, nullable=True),
    sa.Column("by", sa.Text, nullable=True),
    sa.Column("note", sa.Text, nullable=True),
    sa.Column("sent", sa.Text, nullable=False, server_default="{}"),  # JSON: channel -> how far
    sa.Column("due", sa.BigInteger, nullable=True),  # the next moment some channel has work
    sa.Index("lacre_alert_state", "state", "raised"),
    sa.Index("lacre_alert_fingerprint", "fingerprint"),
    sa.Index("lacre_alert_due", "due"),
)

# What a channel of alerts has sent lately, which its limit is counted by, and how often it failed in a row.
CHANNEL = sa.Table(
    "lacre_channel",
    metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("state", sa.Text, nullable=False),  # JSON
)

# What principals have spent of decrypt budgets in a window, by all processes together.
SPENT = sa.Table(
    "lacre_spent",
    metadata,
    sa.Column("class", sa.String(64), primary_key=True),
    sa.Column("principal", sa.Text, primary_key=True),
    sa.Column("window", sa.BigInteger, primary_key=True, autoincrement=False),  # its beginning
    sa.Column("until", sa.BigInteger, nullable=False),
    sa.Column("looks", sa.BigInteger, nullable=False),
    sa.Index("lacre_spent_until", "until"),
)

# How far a reader of the log has come, and what it keeps between two runs.
CURSOR = sa.Table(
    "lacre_cursor",
    metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("shard", sa.Integer, nullable=False),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
)

# Planted rows, by a keyed hash of their place: reading this table does not tell which rows they are.
HONEYTOKEN = sa.Table(
    "lacre_honeytoken",
    metadata,
    sa.Column("token", sa.String(32), primary_key=True),
    sa.Column("mark", sa.String(64), nullable=False, unique=True),
    sa.Column("planted", sa.BigInteger, nullable=False),
)
