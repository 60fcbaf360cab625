-- +goose Up

-- One row a claim: the first in the log's order. Unique on the tile and on
-- nothing else: not on the record, which may be appended again after a
-- failover, and not on the client's claim id, which two players may both choose.
CREATE TABLE entries (
    hunt   TEXT    NOT NULL,
    map    INTEGER NOT NULL,                       -- the map's tick
    tile   INTEGER NOT NULL,
    player TEXT    NOT NULL,
    name   TEXT    NOT NULL,                       -- of the player, when they claimed
    cell   TEXT    NOT NULL,                       -- geohash
    reward INTEGER NOT NULL CHECK (reward >= 0),   -- micro-units
    at     INTEGER NOT NULL,                       -- µs since the Unix epoch
    shard  INTEGER NOT NULL,                       -- with epoch, seq and idx: the claim's place in the logs
    epoch  INTEGER NOT NULL,
    seq    INTEGER NOT NULL,
    idx    INTEGER NOT NULL,
    state  TEXT    NOT NULL DEFAULT 'settled' CHECK (state IN ('settled', 'paid')),
    PRIMARY KEY (hunt, map, tile)
) STRICT, WITHOUT ROWID;

-- A player's entries, newest first. The primary key's columns come after it by
-- themselves, which makes the order total.
CREATE INDEX entries_player ON entries (player, at);

-- How far each shard's log is settled, and the sums over what is.
CREATE TABLE offsets (
    shard     INTEGER NOT NULL PRIMARY KEY,
    epoch     INTEGER NOT NULL,   -- with seq: the last settled record
    seq       INTEGER NOT NULL,
    chain     BLOB    NOT NULL,   -- that record's chain hash
    entries   INTEGER NOT NULL,   -- how many entries came from this shard
    total     INTEGER NOT NULL,   -- Σ of their rewards
    conflicts INTEGER NOT NULL    -- how many claims found their tile taken
) STRICT;

CREATE TABLE balances (
    player  TEXT    NOT NULL PRIMARY KEY,
    entries INTEGER NOT NULL,
    total   INTEGER NOT NULL      -- Σ of the rewards of their entries
) STRICT, WITHOUT ROWID;

-- +goose Down
DROP TABLE balances;
DROP TABLE offsets;
DROP INDEX entries_player;
DROP TABLE entries;
