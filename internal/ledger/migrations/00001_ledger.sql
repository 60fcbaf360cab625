-- +goose Up

-- One row a claim: the first in the log's order. Unique on the tile and on
-- nothing else: not on the record, which may be appended again after a
-- failover, and not on the client's claim id, which two players may both choose.
CREATE TABLE entries (
    hunt   TEXT COLLATE "C" NOT NULL,
    map    BIGINT  NOT NULL,                       -- the map's tick
    tile   BIGINT  NOT NULL,
    player TEXT COLLATE "C" NOT NULL,
    name   TEXT    NOT NULL,                       -- of the player, when they claimed
    cell   TEXT    NOT NULL,                       -- geohash
    reward BIGINT  NOT NULL CHECK (reward >= 0),   -- micro-units
    at     BIGINT  NOT NULL,                       -- µs since the Unix epoch
    shard  BIGINT  NOT NULL,                       -- with epoch, seq and idx: the claim's place in the logs
    epoch  BIGINT  NOT NULL,
    seq    BIGINT  NOT NULL,
    idx    BIGINT  NOT NULL,
    state  TEXT    NOT NULL DEFAULT 'settled' CHECK (state IN ('settled', 'paid')),
    PRIMARY KEY (hunt, map, tile)
) /*sqlite: STRICT, WITHOUT ROWID */;

-- A player's entries, newest first. The tile makes the order total.
CREATE INDEX entries_player ON entries (player, at, hunt, map, tile);

-- How far each shard's log is settled, and the sums over what is.
CREATE TABLE offsets (
    shard     BIGINT NOT NULL PRIMARY KEY,
    epoch     BIGINT NOT NULL,    -- with seq: the last settled record
    seq       BIGINT NOT NULL,
    chain     BYTEA  NOT NULL,    -- that record's chain hash
    entries   BIGINT NOT NULL,    -- how many entries came from this shard
    total     BIGINT NOT NULL,    -- Σ of their rewards
    conflicts BIGINT NOT NULL     -- how many claims found their tile taken
) /*sqlite: STRICT */;

CREATE TABLE balances (
    player  TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    entries BIGINT NOT NULL,
    total   BIGINT NOT NULL       -- Σ of the rewards of their entries
) /*sqlite: STRICT, WITHOUT ROWID */;

-- +goose Down
DROP TABLE balances;
DROP TABLE offsets;
DROP INDEX entries_player;
DROP TABLE entries;
